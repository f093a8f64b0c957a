package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// chain adds c to b to a, where c needs b needs a, and returns the fakes by name.
func chain(reg *lifecycle.Registry, fakes map[string]lifecycle.Component, opts ...lifecycle.Option) {
	reg.Add("a", fakes["a"], opts...)
	reg.Add("b", fakes["b"], append(opts, lifecycle.WithDependencies("a"))...)
	reg.Add("c", fakes["c"], append(opts, lifecycle.WithDependencies("b"))...)
}

func TestHungComponentsGetEqualSharesOfTheTimeAndThoseBelowStillStop(t *testing.T) { // INV-1, INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		b, c := &fake{OnStop: hangs()}, &fake{OnStop: hangs()}
		a := &fake{}
		chain(reg, map[string]lifecycle.Component{"a": a, "b": b, "c": c})
		mustStart(t, reg)
		began := time.Now()
		err := reg.Shutdown(within(t, 30*time.Second))
		// c has a third of 30 s, b half of the 20 s that are left, a returns at once.
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("Shutdown took %v, want 20s", took)
		}
		for name, want := range map[string]time.Duration{"c": 10 * time.Second, "b": 10 * time.Second} {
			ce := componentError(t, err, name)
			if ce.Elapsed != want || ce.Phase != event.PhaseStop {
				t.Errorf("%s: given up in %s after %v, want stop after %v", name, ce.Phase, ce.Elapsed, want)
			}
			wantErr(t, ce, lifecycle.ErrStopTimeout, context.DeadlineExceeded)
			wantText(t, ce.Stack, "lifecycletest.(*Fake).wait")
			wantText(t, ce.Error(), `stop of "`+name+`" failed after 10s: did not stop in time, at lifecycletest.(*Fake).wait (fake.go:`)
			if got := stateOf(t, reg, name); got != lifecycle.StateAbandoned {
				t.Errorf("%s is %s, want abandoned", name, got)
			}
		}
		if got := stateOf(t, reg, "a"); got != lifecycle.StateStopped {
			t.Errorf("a is %s, want stopped", got)
		}
		if e := eventOf[*event.Abandoned](t, seen, "c"); e.Elapsed != 10*time.Second || e.Stack == "" {
			t.Errorf("event %+v", e.Details())
		}
		b.Release()
		c.Release()
		synctest.Wait()
		if got := stateOf(t, reg, "c"); got != lifecycle.StateStopped {
			t.Errorf("c came back late and is %s, want stopped", got)
		}
		if e := eventOf[*event.Late](t, seen, "c"); e.Phase != event.PhaseStop {
			t.Errorf("late in %s, want stop", e.Phase)
		}
		if again := reg.Shutdown(t.Context()); again != err { //nolint:errorlint // the very same
			t.Errorf("a second Shutdown = %v, want the error of the first", again)
		}
	})
}

func TestEverythingHungEndsAtTheDeadlineExactly(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var fakes []*fake
		for i := range 40 { // ten chains of four
			f := &fake{OnStop: hangs(), OnDrain: hangs()}
			fakes = append(fakes, f)
			var opts []lifecycle.Option
			if i >= 10 {
				opts = append(opts, lifecycle.WithDependencies(fmt.Sprint("n", i-10)))
			}
			reg.Add(fmt.Sprint("n", i), f.As(drains), opts...)
		}
		mustStart(t, reg)
		began := time.Now()
		err := reg.Shutdown(within(t, 8*time.Second))
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("Shutdown took %v, want 8s", took)
		}
		for i := range fakes {
			ce := componentError(t, err, fmt.Sprint("n", i))
			if ce.Phase != event.PhaseDrain || ce.Elapsed != 2*time.Second {
				t.Errorf("n%d: %s after %v, want drain after a quarter of the time", i, ce.Phase, ce.Elapsed)
			}
		}
		for _, f := range fakes {
			f.Release()
		}
	})
}

func TestTimeNotUsedPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		c := &fake{OnStop: script{Delay: time.Second}}
		b := &fake{OnStop: script{Delay: 13 * time.Second, Stubborn: true}} // 10 s were its third, 14.5 s is half of the rest
		chain(reg, map[string]lifecycle.Component{"a": &fake{}, "b": b, "c": c})
		mustStart(t, reg)
		if err := reg.Shutdown(within(t, 30*time.Second)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestStopTimeoutShortensTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		f := &fake{OnStop: hangs()}
		reg.Add("a", f, lifecycle.WithStopTimeout(2*time.Second))
		mustStart(t, reg)
		err := reg.Shutdown(within(t, 30*time.Second))
		if ce := componentError(t, err, "a"); ce.Elapsed != 2*time.Second {
			t.Errorf("given up after %v, want 2s", ce.Elapsed)
		}
		f.Release()
	})
}

func TestAbortIsCalledShortlyBeforeTheEndAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		f := &fake{OnStop: hangs()} // Abort releases it
		reg.Add("db", &fake{})
		reg.Add("a", f.As(aborts|drains), lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		err := reg.Shutdown(within(t, 8*time.Second))
		ce := componentError(t, err, "a")
		wantErr(t, ce, lifecycle.ErrStopTimeout)
		wantText(t, ce.Error(), "did not stop in time and was aborted")
		wantText(t, ce.Stack, "(*Fake).wait")
		if want := 4*time.Second - 100*time.Millisecond; ce.Elapsed != want {
			t.Errorf("aborted after %v, want %v: 100 ms before the end of its share", ce.Elapsed, want)
		}
		if e := eventOf[*event.Aborting](t, seen, "a"); e.Stack == "" {
			t.Error("the event has no stack")
		}
		if e := eventOf[*event.Stopped](t, seen, "a"); e.Outcome != event.OutcomeAborted {
			t.Errorf("outcome %s, want aborted", e.Outcome)
		}
		for _, name := range []string{"a", "db"} {
			if got := stateOf(t, reg, name); got != lifecycle.StateStopped {
				t.Errorf("%s is %s, want stopped", name, got)
			}
		}
	})
}

func TestAbortThatHangsOrFailsIsNamedToo(t *testing.T) {
	for name, s := range map[string]script{
		"hangs": hangs(), "fails": {Fail: 1}, "panics": {Panic: "ouch"}, "exits": {Goexit: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := lifecycle.New(quiet())
				f := &fake{OnStop: hangs(), OnAbort: s}
				reg.Add("a", f.As(aborts))
				mustStart(t, reg)
				began := time.Now()
				err := reg.Shutdown(within(t, time.Second))
				if took := time.Since(began); took != time.Second {
					t.Errorf("took %v, want 1s", took)
				}
				wantErr(t, componentError(t, err, "a"), lifecycle.ErrStopTimeout)
				if got := stateOf(t, reg, "a"); got != lifecycle.StateAbandoned {
					t.Errorf("state %s, want abandoned", got)
				}
				f.Release()
			})
		})
	}
}

func TestComponentThatHeedsItsContextSpeaksForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		held := errors.New("3 connections held")
		reg.Add("a", lifecycle.Hooks{OnStop: func(ctx context.Context) error {
			<-ctx.Done()
			return errors.Join(held, ctx.Err())
		}})
		mustStart(t, reg)
		began := time.Now()
		err := reg.Shutdown(within(t, 8*time.Second))
		wantErr(t, componentError(t, err, "a"), held, context.DeadlineExceeded)
		if took := time.Since(began); took != 8*time.Second-250*time.Millisecond {
			t.Errorf("took %v: its context should end 250 ms before its time", took)
		}
		if got := stateOf(t, reg, "a"); got != lifecycle.StateStopped {
			t.Errorf("state %s, want stopped: it has returned", got)
		}
	})
}

func TestDrainAndStopFailSeparatelyAndStopIsCalledAnyhow(t *testing.T) {
	drain, stop := errors.New("drain"), errors.New("stop")
	for name, s := range map[string]script{
		"error": {Fail: 1, Err: drain}, "panic": {Panic: drain}, "exit": {Goexit: true},
	} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			f := &fake{OnDrain: s, OnStop: script{Fail: 1, Err: stop}}
			reg.Add("a", f.As(drains))
			mustStart(t, reg)
			err := reg.Shutdown(t.Context())
			wantErr(t, err, stop)
			if s.Goexit {
				wantErr(t, err, lifecycle.ErrGoexit)
			} else {
				wantErr(t, err, drain)
			}
			if ce := componentError(t, err, "a"); ce.Phase != event.PhaseDrain {
				t.Errorf("first error in %s, want drain", ce.Phase)
			}
		})
	}
}

func TestShutdownWithoutDeadlineHasShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.ShutdownTimeout = 5 * time.Second
		reg := lifecycle.New(cfg)
		f := &fake{OnStop: hangs()}
		reg.Add("a", f)
		mustStart(t, reg)
		began := time.Now()
		wantErr(t, reg.Shutdown(context.WithoutCancel(t.Context())), lifecycle.ErrStopTimeout)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v, want 5s", took)
		}
		f.Release()
	})
}

func TestCancellingAShutdownAbortsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		top := &fake{OnStop: script{Delay: time.Hour}}
		pool := &fake{}
		reg.Add("pool", pool.As(drains|aborts))
		reg.Add("plain", &fake{})
		reg.Add("top", top, lifecycle.WithDependencies("pool", "plain"))
		mustStart(t, reg)
		ctx, cancel := context.WithCancelCause(t.Context())
		impatient := errors.New("somebody pulled the plug")
		defer after(3*time.Second, func() { cancel(impatient) })()
		began := time.Now()
		err := reg.Shutdown(ctx)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3s: top heeds its context", took)
		}
		wantErr(t, err, lifecycle.ErrAborted, impatient)
		wantText(t, err.Error(), `still up: "pool", "plain"`) // and top, if it was not faster
		if pool.Calls(event.PhaseAbort) != 1 || pool.Calls(event.PhaseDrain) != 0 {
			t.Errorf("pool: abort called %d times, drain %d", pool.Calls(event.PhaseAbort), pool.Calls(event.PhaseDrain))
		}
		for _, name := range []string{"top", "pool", "plain"} {
			if got := stateOf(t, reg, name); got != lifecycle.StateStopped {
				t.Errorf("%s is %s, want stopped", name, got)
			}
		}
	})
}

func TestShutdownWithAnEndedContextAbortsAtOnce(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.DrainDelay = time.Hour
		reg := lifecycle.New(cfg)
		hung, pool := &fake{OnStop: hangs()}, &fake{}
		reg.Add("pool", pool.As(aborts))
		reg.Add("hung", hung, lifecycle.WithDependencies("pool"))
		mustStart(t, reg)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		err := reg.Shutdown(ctx)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		wantErr(t, err, lifecycle.ErrAborted, context.Canceled)
		wantErr(t, componentError(t, err, "hung"), lifecycle.ErrStopTimeout)
		if pool.Calls(event.PhaseAbort) != 1 || pool.Calls(event.PhaseStop) != 0 {
			t.Errorf("pool: %d aborts, %d stops, state %s: %v", pool.Calls(event.PhaseAbort), pool.Calls(event.PhaseStop), stateOf(t, reg, "pool"), err)
		}
		hung.Release()
	})
}

func TestHoldKeepsOpenWhatAHungComponentNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.OnHang = lifecycle.HangPolicyHold
		reg := lifecycle.New(cfg)
		seen := record(reg)
		db, other, hung := &fake{}, &fake{}, &fake{OnStop: hangs()}
		reg.Add("db", db)
		reg.Add("other", other)
		reg.Add("writer", hung, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		began := time.Now()
		err := reg.Shutdown(within(t, 10*time.Second))
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v, want 10s", took)
		}
		wantErr(t, componentError(t, err, "writer"), lifecycle.ErrStopTimeout)
		held := componentError(t, err, "db")
		wantErr(t, held, lifecycle.ErrHeld)
		wantText(t, held.Error(), `held open for "writer", which hangs`)
		if db.Calls(event.PhaseStop) != 0 || other.Calls(event.PhaseStop) != 1 {
			t.Errorf("db stopped %d times, other %d; want 0 and 1",
				db.Calls(event.PhaseStop), other.Calls(event.PhaseStop))
		}
		if e := eventOf[*event.Holding](t, seen, "writer"); e.Elapsed != 5*time.Second {
			t.Errorf("held from %v on, want 5s", e.Elapsed)
		}
		eventOf[*event.Held](t, seen, "db")
		if path := reg.Status().Shutdown.Critical; !slices.Equal(path, []string{"writer"}) {
			t.Errorf("critical path %v: what was held open took no time, the writer took all of it", path)
		}
		hung.Release()
	})
}

func TestHoldGoesOnWhenTheHungComponentComesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.OnHang = lifecycle.HangPolicyHold
		reg := lifecycle.New(cfg)
		db := &fake{}
		reg.Add("db", db)
		reg.Add("writer", &fake{OnStop: script{Delay: 8 * time.Second, Stubborn: true}}, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		if err := reg.Shutdown(within(t, 10*time.Second)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if db.Calls(event.PhaseStop) != 1 {
			t.Error("db was not stopped")
		}
	})
}

func TestShutdownBeforeStartAbortsWhatWasNeverStarted(t *testing.T) { // INV-13
	reg := lifecycle.New(quiet())
	pool, plain := &fake{}, &fake{}
	reg.Add("pool", pool.As(drains|aborts))
	reg.Add("plain", plain, lifecycle.WithDependencies("pool"))
	reg.Add("hooks", lifecycle.Hooks{OnStop: func(context.Context) error {
		t.Error("OnStop was called without OnStart")
		return nil
	}})
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pool.Calls(event.PhaseAbort) != 1 || pool.Calls(event.PhaseStop) != 0 || plain.Calls(event.PhaseStop) != 1 {
		t.Errorf("want pool aborted and plain, which has no Abort, stopped")
	}
	for _, name := range []string{"pool", "plain", "hooks"} {
		if got := stateOf(t, reg, name); got != lifecycle.StateStopped {
			t.Errorf("%s is %s, want stopped", name, got)
		}
	}
	if err := reg.Start(t.Context()); !errors.Is(err, lifecycle.ErrShutdown) {
		t.Errorf("Start after Shutdown = %v, want ErrShutdown", err)
	}
	if reg.Health().Report().Ready() {
		t.Error("ready")
	}
}

func TestACallerWithLessTimeLearnsWhatIsStillUpAndChangesNothing(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		reg.Add("slow", &fake{OnStop: script{Delay: 5 * time.Second}})
		mustStart(t, reg)
		var first sync.WaitGroup
		first.Go(func() {
			if err := reg.Shutdown(within(t, 10*time.Second)); err != nil {
				t.Errorf("first: %v", err)
			}
		})
		synctest.Wait()
		err := reg.Shutdown(within(t, time.Second))
		wantErr(t, err, context.DeadlineExceeded)
		wantText(t, err.Error(), `still under way, up: "slow"`)
		first.Wait()
		if again := reg.Shutdown(t.Context()); again != nil {
			t.Errorf("after it: %v", again)
		}
	})
}

func TestDrainDelayServesOnWithReadinessOff(t *testing.T) { // INV-3
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.DrainDelay = 5 * time.Second
		reg := lifecycle.New(cfg)
		seen := record(reg)
		f := &fake{}
		reg.Add("api", f.As(drains))
		mustStart(t, reg)
		if !reg.Health().Report().Ready() {
			t.Error("not ready before")
		}
		began := time.Now()
		defer after(4*time.Second, func() {
			if reg.Health().Report().Ready() {
				t.Error("ready during the delay")
			}
			if f.Calls(event.PhaseDrain) != 0 || stateOf(t, reg, "api") != lifecycle.StateUp {
				t.Error("drained before the delay was over")
			}
		})()
		if err := reg.Shutdown(within(t, 30*time.Second)); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v, want 5s", took)
		}
		if e := eventOf[*event.ShuttingDown](t, seen, ""); e.Delay != 5*time.Second || e.Budget != 30*time.Second {
			t.Errorf("delay %v of %v", e.Delay, e.Budget)
		}
		if r := reg.Status().Shutdown; r.Delay != 5*time.Second || r.Took != 5*time.Second || !r.Began.Equal(began) {
			t.Errorf("report %+v", r)
		}
	})
}

func TestDrainDelayTakesAtMostHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.DrainDelay = 5 * time.Second
		reg := lifecycle.New(cfg)
		f := &fake{OnStop: hangs()}
		reg.Add("api", f)
		mustStart(t, reg)
		began := time.Now()
		err := reg.Shutdown(within(t, 2*time.Second))
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
		if ce := componentError(t, err, "api"); ce.Elapsed != time.Second {
			t.Errorf("api had %v, want the other half", ce.Elapsed)
		}
		f.Release()
	})
}

func TestReadinessIsOffBeforeTheFirstDrainAndNeverBack(t *testing.T) { // INV-3
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		check := func(context.Context) error {
			if reg.Health().Report().Ready() {
				t.Error("ready while stopping")
			}
			return nil
		}
		for i := range 5 {
			reg.Add(fmt.Sprint("n", i), lifecycle.Hooks{OnStop: check})
		}
		mustStart(t, reg)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if reg.Health().Report().Ready() {
			t.Error("ready after shutdown")
		}
	})
}

func TestAThousandErrorsAreListedButTheirNamesAreNot(t *testing.T) {
	reg := lifecycle.New(quiet())
	for i := range 50 {
		reg.Add(fmt.Sprint("n", i), &fake{})
	}
	mustStart(t, reg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := reg.Shutdown(ctx)
	if s := err.Error(); !strings.Contains(s, `"n19" and 30 more`) {
		t.Errorf("want 20 names and a number: %s", s)
	}
}
