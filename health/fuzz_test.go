package health_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// Whatever probes do, and even if the scheduler dies, a check passes only if it has had a result
// within MaxAge. A check that hangs keeps no other from being run.
func TestNoVerdictOutlivesMaxAge(t *testing.T) { // INV-5, INV-6
	rapid.Check(t, func(rt *rapid.T) { noVerdictOutlivesMaxAge(t, rt) })
}

func FuzzNoVerdictOutlivesMaxAge(f *testing.F) { fuzzing.Bubble(f, noVerdictOutlivesMaxAge) }

// habit is what a probe does in one run.
type habit struct {
	Takes  time.Duration
	Fails  bool
	Deaf   bool // it does not return when its context ends
	Panics bool
}

func noVerdictOutlivesMaxAge(t *testing.T, rt *rapid.T) {
	t.Helper()
	habits := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) habit {
		return habit{
			Takes: time.Duration(rapid.IntRange(0, 9000).Draw(rt, "ms")) * time.Millisecond, Fails: rapid.IntRange(0, 2).Draw(rt, "fails") == 0,
			Deaf: rapid.IntRange(0, 4).Draw(rt, "deaf") == 0, Panics: rapid.IntRange(0, 9).Draw(rt, "panics") == 0,
		}
	}), 1, 12).Draw(rt, "habits")
	maxAge := time.Duration(rapid.IntRange(6, 20).Draw(rt, "max age")) * time.Second
	dies := rapid.IntRange(0, 20).Draw(rt, "scheduler dies at look")
	looks := rapid.SliceOfN(rapid.IntRange(1, 4000), 1, 20).Draw(rt, "looks")
	fault := ""
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second, Timeout: 2 * time.Second})
		var result atomic.Pointer[time.Time] // when the last run has one, at the latest
		long := time.Now().Add(-time.Hour)
		result.Store(&long)
		var at, others atomic.Int64
		register(t, m, health.Check{Name: "odd", MaxAge: maxAge, Probe: func(ctx context.Context) error {
			h := habits[(at.Add(1)-1)%int64(len(habits))]
			takes := h.Takes
			if !h.Deaf {
				takes = min(takes, 2*time.Second)
			}
			end := time.Now().Add(takes)
			result.Store(&end)
			if h.Deaf {
				time.Sleep(h.Takes)
			} else {
				select {
				case <-time.After(h.Takes):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			switch {
			case h.Panics:
				panic("odd")
			case h.Fails:
				return errors.New("odd")
			}
			return nil
		}})
		register(t, m, health.Check{Name: "even", Probe: func(context.Context) error { others.Add(1); return nil }})
		start(t, m)
		begun := time.Now()
		for i, ms := range looks {
			if i == dies {
				health.KillScheduler(m)
			}
			time.Sleep(time.Duration(ms) * time.Millisecond)
			synctest.Wait()
			c, _ := m.Report().Check("odd")
			if age := time.Since(*result.Load()); c.Status.OK() && age > maxAge {
				fault = c.Status.String() + " " + age.String() + " after the last result"
				break
			}
			if even, _ := m.Report().Check("even"); i < dies && time.Since(begun) > 2*time.Second && even.Status != health.StatusPass {
				fault = "the other check is " + even.Status.String()
				break
			}
		}
		if ran := int(time.Since(begun) / time.Second); len(looks) <= dies && int(others.Load()) < ran-1 && fault == "" {
			fault = "the other check was left out"
		}
		time.Sleep(10 * time.Second) // what is deaf returns
		stop(t, m)
	})
	if fault != "" {
		rt.Fatal(fault)
	}
}
