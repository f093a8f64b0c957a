package life_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down on purpose")

func nothing(context.Context) error { return nil }

func shut(context.Context, <-chan struct{}) error { return nil }

func fails(context.Context) error { return errDown }

// untilDone hangs as it should: until its context ends.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestStartFromEveryPhase(t *testing.T) {
	for _, c := range []struct {
		at   life.Phase
		want string // of the error; "": it starts
		is   error
	}{
		{life.Unstarted, "", nil},
		{life.Starting, `pkg: start "orders": pkg: already started`, nil},
		{life.Running, `pkg: start "orders": pkg: already started`, nil},
		{life.Draining, `pkg: start "orders": `, poolkeeper.ErrDraining},
		{life.Stopping, `pkg: start "orders": `, poolkeeper.ErrClosed},
		{life.Stopped, `pkg: start "orders": `, poolkeeper.ErrClosed},
	} {
		s := life.NewState("pkg", "orders")
		s.Enter(c.at)
		begun, ran := false, false
		err := s.Start(t.Context(), func(context.Context) error { begun = true; return nil }, func() { ran = true })
		if starts := c.want == ""; begun != starts || ran != starts || starts != (err == nil) {
			t.Errorf("at %d: begun %t, running called %t, %v", c.at, begun, ran, err)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("at %d: %v, want %q and %v", c.at, err, c.want, c.is)
		}
	}
}

func TestPhasesOnlyGrow(t *testing.T) {
	for from := life.Unstarted; from <= life.Stopped; from++ {
		for to := life.Unstarted; to <= life.Stopped; to++ {
			s := life.NewState("pkg", "orders")
			s.Enter(from)
			s.Enter(to)
			if got := s.At(); got != max(from, to) {
				t.Errorf("from %d to %d: at %d", from, to, got)
			}
		}
	}
}

func TestFailedStartMayBeTriedAgain(t *testing.T) {
	s := life.NewState("pkg", "orders")
	if err := s.Start(t.Context(), fails, func() { t.Error("running was called") }); !errors.Is(err, errDown) {
		t.Errorf("Start = %v", err)
	}
	if err := s.Start(t.Context(), nothing, func() {}); err != nil || s.At() != life.Running {
		t.Errorf("the second Start = %v, at %d", err, s.At())
	}
}

func TestDrainDuringStartWins(t *testing.T) {
	s := life.NewState("pkg", "orders")
	err := s.Start(t.Context(), func(ctx context.Context) error {
		s.Enter(life.Draining)
		return ctx.Err() // a Drain does not end the Start
	}, func() { t.Error("running was called") })
	if err != nil || s.At() != life.Draining {
		t.Errorf("Start = %v, at %d", err, s.At())
	}
}

func TestStopCancelsTheStartUnderWayAndWaitsForIt(t *testing.T) {
	for name, end := range map[string]func(s *life.State, ctx context.Context) error{
		"Stop": func(s *life.State, ctx context.Context) error {
			return s.Stop(ctx, func(ctx context.Context, started <-chan struct{}) error {
				if !life.Closed(ctx, started) {
					return errors.New("the Start has not returned")
				}
				return nil
			})
		},
		"Enter": func(s *life.State, _ context.Context) error { s.Enter(life.Stopping); return nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := life.NewState("pkg", "orders")
			var err error
			var wg sync.WaitGroup
			wg.Go(func() {
				err = s.Start(t.Context(), untilDone, func() { t.Error("running was called") })
			})
			synctest.Wait()
			if endErr := end(s, t.Context()); endErr != nil {
				t.Errorf("%s: %v", name, endErr)
			}
			wg.Wait()
			if err == nil || !strings.Contains(err.Error(), "pkg: stopping") {
				t.Errorf("%s: Start = %v", name, err)
			}
			if s.At() < life.Stopping {
				t.Errorf("%s: at %d", name, s.At())
			}
		})
	}
}

// The channel that shut waits for stands for all of Start: what running sets going too.
func TestStartHasReturnedOnlyAfterRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := life.NewState("pkg", "orders")
		var ran atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = s.Start(t.Context(), nothing, func() {
				time.Sleep(time.Second)
				ran.Store(true)
			})
		})
		synctest.Wait()
		if err := s.Stop(t.Context(), func(ctx context.Context, started <-chan struct{}) error {
			if !life.Closed(ctx, started) || !ran.Load() {
				t.Error("running was still under way")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestOneStopShutsAndAllReturnWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := life.NewState("pkg", "orders")
		var calls atomic.Int32
		slow := func(context.Context, <-chan struct{}) error {
			calls.Add(1)
			time.Sleep(time.Minute)
			return errDown
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := s.Stop(t.Context(), slow); !errors.Is(err, errDown) {
					t.Errorf("Stop = %v", err)
				}
			})
		}
		synctest.Wait()
		if at := s.At(); at != life.Draining {
			t.Errorf("at %d during the Stop", at)
		}
		impatient := testkit.Within(t, time.Second)
		if err := s.Stop(impatient, slow); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another Stop") {
			t.Errorf("an impatient Stop = %v", err)
		}
		wg.Wait()
		if err := s.Stop(impatient, slow); !errors.Is(err, errDown) { // late, but it has stopped
			t.Errorf("a Stop afterwards = %v", err)
		}
		if calls.Load() != 1 || s.At() != life.Stopped {
			t.Errorf("shut was called %d times, at %d", calls.Load(), s.At())
		}
	})
}

func TestAbortHurriesTheStopUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := life.NewState("pkg", "orders")
		begun := time.Now()
		patient := func(ctx context.Context, _ <-chan struct{}) error {
			err := untilDone(ctx)
			if !s.Aborted(ctx) {
				t.Error("not aborted, it says")
			}
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Stop(t.Context(), patient); err == nil || err.Error() != "pkg: aborted" {
				t.Errorf("Stop = %v", err)
			}
		})
		synctest.Wait()
		for range 2 { // during the Stop and after
			if err := s.Abort(shut); err == nil || err.Error() != "pkg: aborted" {
				t.Errorf("Abort = %v", err)
			}
		}
		wg.Wait()
		if d := time.Since(begun); d != 0 {
			t.Errorf("took %s", d)
		}
	})
}

func TestAbortAloneIsAStopWithoutTime(t *testing.T) {
	s := life.NewState("pkg", "orders")
	if err := s.Abort(func(ctx context.Context, started <-chan struct{}) error {
		if ctx.Err() == nil || !s.Aborted(ctx) || started != nil {
			t.Errorf("%v, aborted %t, a Start %t", ctx.Err(), s.Aborted(ctx), started != nil)
		}
		return errDown
	}); !errors.Is(err, errDown) || s.At() != life.Stopped {
		t.Errorf("Abort = %v, at %d", err, s.At())
	}
	late := testkit.Within(t, 0)
	if s.Aborted(late) {
		t.Error("a deadline is taken for an Abort")
	}
}

func TestClosedCountsBeforeTheEndOfTheContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	if life.Closed(ended, done) {
		t.Error("open, and closed it says")
	}
	close(done)
	for range 100 { // a select would take either
		if !life.Closed(ended, done) || !life.Closed(ended, nil) {
			t.Fatal("closed, and open it says")
		}
	}
}

func TestOneChangeAtATimeAndNoneOfAPoolThatStops(t *testing.T) {
	s := life.NewState("pkg", "orders")
	if err := s.BeginChange(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.TryBeginChange() {
		t.Error("two changes at once")
	}
	if err := s.BeginChange(testkit.Within(t, time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second BeginChange = %v", err)
	}
	s.EndChange()
	for at, want := range map[life.Phase]error{life.Draining: poolkeeper.ErrDraining, life.Stopping: poolkeeper.ErrClosed} {
		gone := life.NewState("pkg", "orders")
		gone.Enter(at)
		if err := gone.BeginChange(t.Context()); !errors.Is(err, want) {
			t.Errorf("BeginChange at %d = %v", at, err)
		}
		if !gone.TryBeginChange() { // the one refused has given it back
			t.Errorf("at %d no change can begin", at)
		}
	}
}

func TestReachDoesAsThePolicySays(t *testing.T) {
	for _, c := range []struct {
		policy  poolkeeper.StartPolicy
		down    int // failures before the first success
		reached bool
		fails   bool
		logged  []string
	}{
		{poolkeeper.StartFailFast, 0, true, false, []string{}},
		{poolkeeper.StartFailFast, 1, false, true, []string{}}, // the registry says it
		{poolkeeper.StartDegraded, 1, false, false, []string{"WARN starting without the server"}},
		{poolkeeper.StartWaitForServer, 3, true, false, []string{
			"WARN waiting for the server", "INFO still waiting for the server", "INFO still waiting for the server", "INFO the server answers",
		}},
	} {
		t.Run(fmt.Sprint(c.policy, c.down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out testkit.Log
				left := c.down
				log := event.NewLog("pkg", func() string { return "orders" }, out.Logger, func(error) (string, string) { return "refused", "start it" })
				reached, err := life.NewState("pkg", "orders").Reach(t.Context(), c.policy, log,
					func(context.Context) error {
						if left--; left >= 0 {
							return errDown
						}
						return nil
					})
				if reached != c.reached || (err != nil) != c.fails || err != nil && !errors.Is(err, errDown) {
					t.Errorf("reached %t, %v", reached, err)
				}
				if c.fails && !strings.HasSuffix(err.Error(), "(start it)") {
					t.Errorf("%v says nothing of what to look at", err)
				}
				got := regexp.MustCompile(`level=(\w+) msg="pkg: (.*?)"`).FindAllStringSubmatch(out.String(), -1)
				lines := []string{}
				for _, m := range got {
					lines = append(lines, m[1]+" "+m[2])
				}
				if !slices.Equal(lines, c.logged) {
					t.Errorf("logged %q, want %q:\n%s", lines, c.logged, out.String())
				}
			})
		})
	}
}

func TestNameIsNeverEmptied(t *testing.T) {
	s := life.NewState("pkg", "redis")
	s.SetName("")
	s.SetName("cache")
	s.SetName("")
	if got := s.Name(); got != "cache" {
		t.Errorf("Name = %q", got)
	}
}
