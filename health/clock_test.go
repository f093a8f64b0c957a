package health_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestBackoffDoublesUpToIntervalAndThirtySeconds(t *testing.T) {
	steps := func(interval time.Duration, n int) []time.Duration {
		var out []time.Duration
		for i := 1; i <= n; i++ {
			out = append(out, health.Backoff(i, interval))
		}
		return out
	}
	const s = time.Second
	for interval, want := range map[time.Duration][]time.Duration{
		10 * s:                 {1 * s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s},
		5 * time.Minute:        {1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s},
		100 * time.Millisecond: {100 * time.Millisecond, 100 * time.Millisecond},
	} {
		if got := steps(interval, len(want)); !slices.Equal(got, want) {
			t.Errorf("interval %v: %v, want %v", interval, got, want)
		}
	}
	if got := health.Backoff(math.MaxInt, time.Hour); got != 30*s {
		t.Errorf("after very many failures: %v", got)
	}
}

func TestJitterOnlyShortensABackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "d"))
		jitter := rapid.Float64Range(0, 1).Draw(t, "jitter")
		random := rapid.Float64Range(0, 1).Draw(t, "random")
		got := health.Shorten(d, jitter, random)
		if got > d || got < d-time.Duration(jitter*float64(d))-1 {
			t.Fatalf("%v with jitter %v: %v", d, jitter, got)
		}
	})
}

// The next slot is in the future, is not the last one again, and no later than an interval away
// unless the last one was used early.
func TestSlotsAreAlwaysAheadAndNeverRepeat(t *testing.T) {
	rapid.Check(t, slotsAreAlwaysAhead)
}

func FuzzSlotsAreAlwaysAheadAndNeverRepeat(f *testing.F) { fuzzing.Property(f, slotsAreAlwaysAhead) }

func slotsAreAlwaysAhead(t *rapid.T) {
	interval := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "interval"))
	phase := rapid.Float64Range(0, 0.999999).Draw(t, "phase")
	now := rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "now")
	slot := health.SlotAfter(now, interval, phase, -1)
	at := health.SlotStart(slot, interval, phase)
	if at <= now || at > now+int64(interval) {
		t.Fatalf("slot %d begins %v after now", slot, time.Duration(at-now))
	}
	if again := health.SlotAfter(now, interval, phase, slot); again != slot+1 {
		t.Fatalf("after slot %d comes %d", slot, again)
	}
}

func TestPhasesAreSpreadEvenlyForAnyNumberOfChecks(t *testing.T) {
	for _, n := range []int{2, 3, 10, 100, 1000} {
		var phases []float64
		for i := 1; i <= n; i++ {
			phases = append(phases, health.Spread(i, 0.123))
		}
		slices.Sort(phases)
		widest := 1 - phases[n-1] + phases[0]
		for i := 1; i < n; i++ {
			widest = max(widest, phases[i]-phases[i-1])
		}
		// The golden ratio leaves no gap wider than 1.9 times the even one (three-distance
		// theorem).
		if widest > 1.9/float64(n) {
			t.Errorf("%d checks: a gap of %.4f, even would be %.4f", n, widest, 1/float64(n))
		}
	}
}
