package isolation

import (
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
)

func TestBetweenTellsWhatHasHappenedSince(t *testing.T) {
	var use histogram.Recorder
	record := func(n int, d time.Duration) poolkeeper.Histogram {
		for range n {
			use.Record(d)
		}
		return use.Snapshot()
	}
	before := poolkeeper.Stats{Use: record(1000, time.Second), DialErrors: 5, AcquireTimeouts: 7}
	for _, c := range []struct {
		n    int
		d    time.Duration
		want time.Duration
	}{{99, 2 * time.Millisecond, 5 * time.Millisecond}, {0, 0, 0}, {10, 950 * time.Microsecond, 950 * time.Microsecond}, {9, 20 * time.Second, 20 * time.Second}} {
		if c.n == 99 {
			record(1, time.Minute) // one that took long is not typical
		}
		after := poolkeeper.Stats{Use: record(c.n, c.d), DialErrors: 6, AcquireTimeouts: 9, Max: 10, InUse: 4}
		got := Between(before, after)
		if d := got.Latency - c.want; d < -time.Microsecond || d > time.Microsecond {
			t.Errorf("%d of %v: %v", c.n, c.d, got.Latency)
		}
		if got.Failures != 3 || got.Requests != 3+after.Use.Count-before.Use.Count || got.Saturation != 0.4 {
			t.Errorf("%+v", got)
		}
		before.Use = after.Use
	}
	if got := Between(before, poolkeeper.Stats{Waiting: 1}); got != (Sample{Saturation: 1}) {
		t.Errorf("counters that begin anew: %+v", got)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	for _, ok := range []poolkeeper.Isolation{{}, {MinScore: 100, After: 6 * time.Second, MaxRetry: time.Minute, TrialShare: 1, MaxErrorRatio: 1}} {
		if err := Validate("p", ok, time.Second); err != nil {
			t.Error(err)
		}
	}
	err := Validate("p", poolkeeper.Isolation{
		MinScore: 101, After: time.Second, Retry: time.Hour, MaxRetry: time.Minute, TrialShare: 0.001, MinServing: -1, LatencyWeight: -1,
		ErrorWeight: 1 << 30, SaturationWeight: -2, SlowFactor: 1, FastLatency: -1, SlowLatency: poolkeeper.Off, MaxErrorRatio: 1.5,
	}, time.Second)
	for _, want := range []string{
		"p: Isolation.MinScore is 101; it must be from 1 to 100, or 0 (off)",
		"p: Isolation.After is 1s; it must be at least 6s, which is 6 polls",
		"p: Isolation.MaxRetry is 1m0s; it must be at least Retry, 1h0m0s",
		"p: Isolation.TrialShare is 0.001; it must be from 0.01 to 1, or 0 (the default)",
		"p: Isolation.MinServing is -1; it must be positive or 0 (the default)",
		"p: Isolation.LatencyWeight is -1", "p: Isolation.ErrorWeight is 1073741824", "p: Isolation.SaturationWeight is -2",
		"p: Isolation.SlowFactor is 1; it must be from 2 to 1,000, or 0 (the default)", "p: Isolation.FastLatency is -1ns",
		"p: Isolation.SlowLatency is -1ns", "p: Isolation.MaxErrorRatio is 1.5",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing of %q in: %v", want, err)
		}
	}
	if d := WithDefaults(poolkeeper.Isolation{}, 100*365*24*time.Hour).After; d <= 0 {
		t.Errorf("After %v", d)
	}
}
