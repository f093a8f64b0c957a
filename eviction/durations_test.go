package eviction_test

import (
	"context"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
)

// countingPool has connections that are never needed, and counts the rounds.
type countingPool struct {
	open          atomic.Int64
	rounds, swept atomic.Int64
}

func (p *countingPool) Open() int { return int(p.open.Load()) }

func (p *countingPool) Peak() int {
	p.rounds.Add(1)
	return 0
}

func (p *countingPool) Sweep(_ context.Context, s eviction.Sweep) time.Time {
	p.swept.Add(1)
	if s.Expired(s.Now.Add(-time.Hour), 1) {
		p.open.Store(0)
	}
	p.open.Add(-min(int64(s.Surplus), p.open.Load()))
	return time.Time{}
}

func (p *countingPool) Fill(context.Context, int) error { return nil }

// A duration is refused under its name, or the evictor works with it: the longest means never, the
// shortest does not keep a CPU busy.
func TestEveryDurationMayBeAsLongAsItGets(t *testing.T) {
	extremes := []time.Duration{0, 1, poolkeeper.Off, -2 * time.Second, math.MaxInt64, math.MaxInt64 - 1}
	for f := range reflect.TypeFor[eviction.Policy]().Fields() {
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		for _, d := range extremes {
			for _, jitter := range []float64{0, 0.1, 1} {
				p := eviction.Policy{MaxIdleTime: time.Minute, LifetimeJitter: jitter}
				reflect.ValueOf(&p).Elem().FieldByIndex(f.Index).SetInt(int64(d))
				tryPolicy(t, f.Name, d, p)
			}
		}
	}
}

func tryPolicy(t *testing.T, name string, d time.Duration, p eviction.Policy) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var pool countingPool
		pool.open.Store(5)
		e := eviction.New(&pool, p)
		err := e.Start(t.Context())
		if d < 0 {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %d: %v, want it refused", name, d, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s %d: %v", name, d, err)
		}
		time.Sleep(time.Second)
		if n := pool.rounds.Load(); n > 2000 {
			t.Errorf("%s %d: %d rounds in a second", name, d, n)
		}
		if d > 1 && pool.open.Load() != 5 && (name != "MaxLifetime" || p.LifetimeJitter < 1) {
			t.Errorf("%s %d: connections were closed, not one of which was due", name, d)
		}
		if d > 1 && pool.swept.Load() > 2 {
			t.Errorf("%s %d: %d sweeps in a second", name, d, pool.swept.Load())
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
