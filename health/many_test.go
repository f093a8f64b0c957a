package health_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// Removed and registered again, a check whose probe hangs has one goroutine, not one per
// registration.
func TestANameHasOneHungProbeHoweverOftenItIsRegistered(t *testing.T) { // INV-6
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		release := make(chan struct{})
		var in atomic.Int32
		c := health.Check{Name: "x", Timeout: time.Second, Interval: time.Second, Probe: func(context.Context) error {
			in.Add(1)
			<-release
			return nil
		}}
		var r *health.Registration
		for range 200 {
			r = register(t, m, c)
			advance(50 * time.Millisecond)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = r.Remove(ended)
		}
		r = register(t, m, c)
		if n := in.Load(); n != 1 {
			t.Errorf("%d probes of one name hang", n)
		}
		if rep, _ := m.Report().Check("x"); rep.Status != health.StatusUnknown {
			t.Errorf("%s before its Timeout is over: an earlier probe may still return", rep.Status)
		}
		advance(10 * time.Second)
		rep, _ := m.Report().Check("x")
		if rep.Status != health.StatusFail || rep.Fault.Kind != health.KindHung || in.Load() != 1 {
			t.Errorf("%s (%s), %d probes", rep.Status, rep.Fault.Kind, in.Load())
		}
		for range 1000 { // what traffic sees brings no run forward that cannot begin
			r.Observe(nil)
			advance(time.Millisecond)
		}
		close(release)
		advance(2 * time.Second)
		if rep, _ := m.Report().Check("x"); rep.Status != health.StatusPass || !rep.HungSince.IsZero() {
			t.Errorf("%s after the earlier probe has returned: %v", rep.Status, rep.Err)
		}
	})
}

// An earlier probe that returns soon after it was cancelled is no fault of the next check of its
// name.
func TestACheckWaitsForTheCancelledProbeOfItsPredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		ch := m.Watch(t.Context())
		r := register(t, m, health.Check{Name: "x", Probe: func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			return ctx.Err()
		}})
		advance(10 * time.Millisecond)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_ = r.Remove(ended)
		var next script
		register(t, m, health.Check{Name: "x", Probe: next.probe, Interval: rarely})
		advance(50 * time.Millisecond)
		if next.runs() != 0 {
			t.Error("two probes of one name at once")
		}
		advance(time.Second)
		if next.runs() != 1 {
			t.Errorf("%d runs after the earlier probe had returned", next.runs())
		}
		for _, l := range drain(ch) {
			if l == "x unknown>fail" {
				t.Error("it failed for its predecessor")
			}
		}
	})
}

// What a listener has not taken is one change per check that there is, whatever was there before.
func TestNamesThatComeAndGoLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		unread := m.Watch(t.Context())
		for i := range 500 {
			r := register(t, m, health.Check{
				Name: fmt.Sprint("tenant-", i), Groups: []string{fmt.Sprint("group-", i)},
				Probe: func(context.Context) error { return errDown },
			})
			settle()
			if err := r.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := health.PendingOf(m); n > 4 { // live, ready, startup, and the one on its way
			t.Errorf("%d changes are kept for 2 listeners, of no check that exists", n)
		}
		if lines := drain(unread); len(lines) > 4 {
			t.Errorf("told %s", strings.Join(lines, ", "))
		}
	})
}

// An offer costs the same however many changes wait already.
func BenchmarkOfferToAListenerThatTakesNothing(b *testing.B) {
	for _, names := range []int{100, 10_000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			offer := health.OfferTo(names)
			for i := range b.N {
				offer(i)
			}
		})
	}
}
