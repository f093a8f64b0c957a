package eviction_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// naivePlanner is the planner written so that one can see that it is right: it remembers everything
// that ever happened and works each answer out from that.
type naivePlanner struct {
	policy  eviction.Policy
	since   time.Time
	samples []naiveSample
	due     []time.Time // instants at which a connection comes due; the earliest counts
	noFill  time.Time
	failed  int
}

type naiveSample struct {
	at   time.Time
	peak int
}

func (n *naivePlanner) perConnection() bool {
	return n.policy.KeepAlive > 0 || n.policy.MaxLifetime > 0
}

func (n *naivePlanner) plan(now time.Time, open, peak int) eviction.Plan {
	n.samples = append(n.samples, naiveSample{now, peak})
	var out eviction.Plan
	surplus := 0
	if n.policy.MaxIdleTime > 0 && now.Sub(n.since) >= n.policy.MaxIdleTime {
		needed := 0
		for _, s := range n.samples {
			if now.Sub(s.at) < n.policy.MaxIdleTime {
				needed = max(needed, s.peak)
			}
		}
		surplus = max(0, open-needed-n.policy.MinIdle)
	}
	comesDue := false
	for _, d := range n.due {
		comesDue = comesDue || (open > 0 && !now.Before(d))
	}
	if surplus > 0 || comesDue {
		out.Sweep = true
		out.Order = eviction.Sweep{
			Surplus: surplus, Batch: n.policy.Batch, MinIdle: n.policy.MinIdle, Now: now,
			KeepAlive: n.policy.KeepAlive, MaxLifetime: n.policy.MaxLifetime, LifetimeJitter: n.policy.LifetimeJitter,
		}
	}
	if !now.Before(n.noFill) {
		out.Fill = n.policy.MinIdle
	}
	return out
}

func (n *naivePlanner) swept(decided, next time.Time) {
	n.due = nil
	if !next.IsZero() && n.perConnection() {
		n.due = append(n.due, next)
	}
	if n.policy.KeepAlive > 0 {
		n.due = append(n.due, decided.Add(n.policy.KeepAlive))
	}
	if l := n.policy.MaxLifetime; l > 0 {
		n.due = append(n.due, decided.Add(l-time.Duration(float64(l)*n.policy.LifetimeJitter)))
	}
}

func (n *naivePlanner) filled(now time.Time, failed bool) {
	if !failed {
		n.failed, n.noFill = 0, time.Time{}
		return
	}
	delays := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second}
	n.noFill = now.Add(delays[min(n.failed, len(delays)-1)])
	n.failed++
}

// next: the earliest of the reasons to wake up, none of them sooner than one interval from now.
func (n *naivePlanner) next(now time.Time, open int) (at time.Time, attentive bool) {
	var reasons []time.Time
	if n.policy.MaxIdleTime > 0 && open > n.policy.MinIdle {
		reasons, attentive = append(reasons, now), true
	}
	memory := n.policy.MaxIdleTime
	if memory == 0 {
		memory = n.policy.Interval
	}
	used := false
	last := n.samples[len(n.samples)-1].at
	for _, s := range n.samples {
		used = used || (s.peak > 0 && last.Sub(s.at) < memory)
	}
	if n.policy.MinIdle > 0 && (used || open < n.policy.MinIdle) {
		reasons, attentive = append(reasons, n.noFill), true
	}
	if open > 0 {
		reasons = append(reasons, n.due...)
	}
	if len(reasons) == 0 {
		return time.Time{}, false
	}
	at = slices.MinFunc(reasons, time.Time.Compare)
	if soonest := now.Add(n.policy.Interval); at.Before(soonest) {
		at = soonest
	}
	return at, attentive
}

// history is one run of both planners over the same events.
type history struct {
	fail func(format string, args ...any)
	now  time.Time
	fast eviction.Planner
	slow *naivePlanner
}

func newHistory(p eviction.Policy, fail func(string, ...any)) *history {
	h := &history{fail: fail, now: epoch, fast: eviction.NewPlanner(p, epoch), slow: &naivePlanner{policy: p, since: epoch}}
	if h.slow.perConnection() {
		h.slow.due = []time.Time{epoch}
	}
	return h
}

// round plays one round, step after the last, and compares all that the two planners say.
func (h *history) round(step time.Duration, open, peak int, next time.Duration, fillFails bool) {
	h.now = h.now.Add(step)
	got, want := h.fast.Plan(h.now, open, peak), h.slow.plan(h.now, open, peak)
	if !reflect.DeepEqual(got, want) {
		h.fail("at +%s, open %d, peak %d:\n got %+v\nwant %+v", h.now.Sub(epoch), open, peak, got, want)
	}
	if got.Sweep {
		var due time.Time
		if next != 0 {
			due = h.now.Add(next)
		}
		h.fast.Swept(h.now, due)
		h.slow.swept(h.now, due)
	}
	if got.Fill > 0 {
		h.fast.Filled(h.now, fillFails)
		h.slow.filled(h.now, fillFails)
	}
	gotAt, gotOK := h.fast.Next(h.now, open)
	wantAt, wantOK := h.slow.next(h.now, open)
	if gotOK != wantOK || !gotAt.Equal(wantAt) {
		h.fail("at +%s, open %d: next round %v %v, want %v %v", h.now.Sub(epoch), open, gotAt, gotOK, wantAt, wantOK)
	}
}

func TestPlannerAgreesWithItsNaiveTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Second
		}
		h := newHistory(eviction.Policy{
			MinIdle:        rapid.IntRange(0, 4).Draw(t, "MinIdle"),
			MaxIdleTime:    duration("MaxIdleTime", 20),
			MaxLifetime:    duration("MaxLifetime", 60),
			LifetimeJitter: float64(rapid.IntRange(0, 4).Draw(t, "jitter")) / 4,
			KeepAlive:      duration("KeepAlive", 30),
			Interval:       time.Second + duration("Interval", 5),
			Batch:          1 + rapid.IntRange(0, 5).Draw(t, "Batch"),
		}, t.Fatalf)
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			open := rapid.IntRange(0, 12).Draw(t, "open")
			h.round(duration("step", 12), open, rapid.IntRange(0, 14).Draw(t, "peak"),
				duration("next", 40)-10*time.Second, rapid.Bool().Draw(t, "fill fails"))
		}
	})
}

func FuzzPlannerAgreesWithItsNaiveTwin(f *testing.F) {
	f.Add([]byte{2, 10, 30, 1, 20, 1, 0, 4, 1, 8, 3, 5, 0, 200, 8, 1, 5, 1})
	f.Add([]byte{0, 1, 0, 0, 0, 1, 3, 1, 5, 9, 9, 0, 1, 5, 9, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		const head, event = 8, 5
		if len(data) < head {
			return
		}
		second := func(b byte) time.Duration { return time.Duration(b) * time.Second }
		h := newHistory(eviction.Policy{
			MinIdle: int(data[0]), MaxIdleTime: second(data[1]), MaxLifetime: second(data[2]),
			LifetimeJitter: float64(data[3]) / 255, KeepAlive: second(data[4]), Interval: second(max(data[5], 1)),
			Batch: int(max(data[7], 1)),
		}, t.Fatalf)
		for data = data[head:]; len(data) >= event; data = data[event:] {
			next := time.Duration(int8(data[3])) * time.Second
			h.round(second(data[0]), int(data[1]), int(data[2]), next, data[4]%2 == 1)
		}
	})
}

// INV-7. The claim on which the whole package rests: in a LIFO pool, what is called surplus is
// exactly the number of connections that were unused at every moment of the last MaxIdleTime. Here
// the pool knows each connection's clock.
func TestSurplusIsWhatALIFOPoolDidNotUse(t *testing.T) {
	rapid.Check(t, surplusIsWhatWasNotUsed)
}

func FuzzSurplusIsWhatALIFOPoolDidNotUse(f *testing.F) { fuzzing.Property(f, surplusIsWhatWasNotUsed) }

func surplusIsWhatWasNotUsed(t *rapid.T) {
	const window = 10 * time.Second
	minIdle := rapid.IntRange(0, 3).Draw(t, "MinIdle")
	planner := eviction.NewPlanner(eviction.Policy{MinIdle: minIdle, MaxIdleTime: window, Interval: time.Second}, epoch)
	now, inUse := epoch, 0
	var used []time.Time // of each connection, the coldest first; the last inUse of them are in use
	for range rapid.IntRange(10, 80).Draw(t, "seconds") {
		peak := inUse
		for range rapid.IntRange(0, 4).Draw(t, "moves") { // within one second: up to some level, then down to another
			up := rapid.IntRange(0, 8).Draw(t, "up")
			peak, inUse = max(peak, up), rapid.IntRange(0, up).Draw(t, "down")
			for len(used) < up {
				used = append(used, now)
			}
			for i := range up {
				used[len(used)-1-i] = now
			}
		}
		for i := range inUse { // still in use when the second ends
			used[len(used)-1-i] = now.Add(time.Second)
		}
		now = now.Add(time.Second)
		// The moves of a second are stamped with its beginning and sampled at its end: one
		// interval is added.
		unused := 0
		for _, u := range used {
			if now.Sub(u) >= window+time.Second {
				unused++
			}
		}
		got := planner.Plan(now, len(used), peak).Order.Surplus
		if want := max(0, unused-minIdle); got != want && now.Sub(epoch) >= window+time.Second {
			t.Fatalf("at +%s with %d open, %d in use: surplus %d, but %d were unused for %s and %d are to stay",
				now.Sub(epoch), len(used), inUse, got, unused, window, minIdle)
		}
		used = used[min(got, len(used)):]
	}
}

func TestWindowHoldsNoMoreSamplesThanDifferentValues(t *testing.T) {
	var w eviction.Window
	for i := range 100_000 {
		w.Add(epoch.Add(time.Duration(i)*time.Millisecond), (i*7919)%10)
		if w.Len() > 10 {
			t.Fatalf("after %d samples of 10 values the window holds %d", i+1, w.Len())
		}
	}
}

func TestPolicyReportsEveryFaultAtOnce(t *testing.T) {
	err := eviction.Policy{
		MinIdle: -1, MaxIdleTime: -1, MaxLifetime: -1, KeepAlive: -1, Interval: -1, Batch: -1, LifetimeJitter: 1.5,
	}.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 7 {
		t.Fatalf("Validate = %v, want 7 faults", err)
	}
	if err := (eviction.Policy{}).Validate(); err != nil {
		t.Fatalf("the zero policy: %v", err)
	}
}

func TestLifetimeIsSpreadBelowTheMaximum(t *testing.T) {
	s := eviction.Sweep{Now: epoch.Add(50 * time.Minute), MaxLifetime: time.Hour, LifetimeJitter: 0.5}
	for draw, want := range map[float64]time.Duration{0: time.Hour, 0.5: 45 * time.Minute, 1: 30 * time.Minute} {
		born := eviction.Sweep{Now: epoch, MaxLifetime: s.MaxLifetime, LifetimeJitter: s.LifetimeJitter}
		if got := born.Next([]eviction.Conn{{Born: epoch, Draw: draw}}).Sub(epoch); got != want {
			t.Errorf("draw %v: expires after %s, want %s", draw, got, want)
		}
		if got := s.Expired(epoch, draw); got != (want <= 50*time.Minute) {
			t.Errorf("draw %v: expired after 50 min = %v", draw, got)
		}
	}
	if (eviction.Sweep{Now: epoch}).Expired(epoch.Add(-1e6*time.Hour), 0) {
		t.Error("expired without a limit")
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, open := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("open=%d", open), func(b *testing.B) {
			p := eviction.NewPlanner(eviction.Policy{MinIdle: 2, MaxIdleTime: time.Minute, MaxLifetime: time.Hour}, epoch)
			now := epoch
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(6 * time.Second)
				p.Plan(now, open, open-i%8)
				p.Next(now, open)
			}
		})
	}
}

// INV-7: after MaxIdleTime was raised, demand is known for as long only as it was remembered
// before.
func TestLongerMaxIdleTimeHoldsForDemandThatIsForgotten(t *testing.T) {
	for _, before := range []time.Duration{0, time.Minute} {
		p := eviction.NewPlanner(eviction.Policy{MaxIdleTime: before}, epoch)
		p.Plan(epoch.Add(30*time.Minute), 10, 10)                                              // all are needed
		p.Plan(epoch.Add(35*time.Minute), 10, 0)                                               // forgotten by now
		p.SetPolicy(eviction.Policy{MaxIdleTime: 20 * time.Minute}, epoch.Add(35*time.Minute)) // needed 5 minutes ago
		if got := p.Plan(epoch.Add(36*time.Minute), 10, 0); got.Order.Surplus != 0 {
			t.Errorf("from %s: %d are surplus that were in use 6 minutes ago", before, got.Order.Surplus)
		}
		if got := p.Plan(epoch.Add(56*time.Minute), 10, 0); got.Order.Surplus != 10 {
			t.Errorf("from %s: surplus is %d in the end", before, got.Order.Surplus)
		}
	}
}
