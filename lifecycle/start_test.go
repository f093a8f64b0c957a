package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestIndependentComponentsStartTogetherAndDependentOnesAsSoonAsTheyCan(t *testing.T) { // INV-1
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		for i := range 100 {
			reg.Add(fmt.Sprint("n", i), &fake{OnStart: script{Delay: time.Second}, OnStop: script{Delay: time.Second}})
		}
		reg.Add("slow", &fake{OnStart: script{Delay: 5 * time.Second}})
		reg.Add("top", &fake{OnStart: script{Delay: time.Second}}, lifecycle.WithDependencies("n7")) // does not wait for slow
		began := time.Now()
		mustStart(t, reg)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("Start took %v, want 5s, its critical path", took)
		}
		s := reg.Status()
		if top, _ := s.Component("top"); top.Up.Began.Sub(began) != time.Second {
			t.Errorf("top began after %v, want 1s", top.Up.Began.Sub(began))
		}
		if c := s.Start.Critical; len(c) != 1 || c[0] != "slow" {
			t.Errorf("critical path %v, want slow", c)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStartTimeoutOfOneComponentEndsItsContextAndNamesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		db := &fake{}
		reg.Add("db", db)
		reg.Add("slow", &fake{OnStart: script{Delay: time.Hour}}, lifecycle.WithStartTimeout(4*time.Second), lifecycle.WithDependencies("db"))
		began := time.Now()
		err := reg.Start(t.Context())
		wantErr(t, componentError(t, err, "slow"), context.DeadlineExceeded)
		if took := time.Since(began); took != 4*time.Second-100*time.Millisecond {
			t.Errorf("took %v: its context should end 100 ms before its time", took)
		}
		if db.Calls(event.PhaseStop) != 1 {
			t.Error("db was not stopped")
		}
	})
}

func TestRegistryStartTimeoutBoundsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.StartTimeout = 8 * time.Second
		reg := lifecycle.New(cfg)
		for i := range 5 {
			var opts []lifecycle.Option
			if i > 0 {
				opts = append(opts, lifecycle.WithDependencies(fmt.Sprint("n", i-1)))
			}
			reg.Add(fmt.Sprint("n", i), &fake{OnStart: script{Delay: 3 * time.Second}}, opts...)
		}
		began := time.Now()
		err := reg.Start(t.Context())
		wantErr(t, componentError(t, err, "n2"), context.DeadlineExceeded)
		wantErr(t, err, context.DeadlineExceeded)
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("took %v, want at most 8s", took)
		}
	})
}

func TestHungStartIsNamedWithTheStackOfItsChildren(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release, released := make(chan struct{}), make(chan struct{})
		db, pool := &fake{}, &fake{}
		reg.Add("db", db)
		reg.Add("pool", pool.As(aborts), lifecycle.WithDependencies("stuck"))
		reg.Add("stuck", lifecycle.Hooks{OnStart: func(context.Context) error {
			go childOfStuck(release, released)
			<-released
			return nil
		}}, lifecycle.WithDependencies("db"))
		began := time.Now()
		err := reg.Start(within(t, 10*time.Second))
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v, want 10s", took)
		}
		ce := componentError(t, err, "stuck")
		wantErr(t, ce, lifecycle.ErrStartTimeout, context.DeadlineExceeded)
		wantText(t, ce.Stack, "TestHungStartIsNamedWithTheStackOfItsChildren", "lifecycle_test.childOfStuck (")
		wantText(t, ce.Error(), `start of "stuck" failed after 10s: did not start in time, at lifecycle_test.TestHungStart`)
		if strings.Contains(ce.Stack, "callComponents") {
			t.Errorf("the stack shows our own machinery:\n%s", ce.Stack)
		}
		if strings.Count(err.Error(), "did not start in time") != 1 {
			t.Errorf("the culprit is named twice:\n%v", err)
		}
		if db.Calls(event.PhaseStop) != 1 || pool.Calls(event.PhaseAbort) != 1 || pool.Calls(event.PhaseStart) != 0 {
			t.Error("want db stopped, and pool, which was never started, aborted")
		}
		again := reg.Shutdown(t.Context())
		wantErr(t, componentError(t, again, "stuck"), lifecycle.ErrStartTimeout) // it may still be up: no success
		close(release)
	})
}

func childOfStuck(release, released chan struct{}) {
	<-release
	close(released)
}

func TestAComponentThatComesUpLateIsStoppedAtOnce(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		f := &fake{OnStart: script{Delay: time.Minute, Stubborn: true}}
		reg.Add("late", f)
		wantErr(t, reg.Start(within(t, time.Second)), lifecycle.ErrStartTimeout)
		if f.Calls(event.PhaseStop) != 0 {
			t.Error("stopped while its Start was running")
		}
		advance(time.Minute)
		if f.Calls(event.PhaseStop) != 1 || stateOf(t, reg, "late") != lifecycle.StateStopped {
			t.Errorf("stop called %d times, state %s; want 1, stopped", f.Calls(event.PhaseStop), stateOf(t, reg, "late"))
		}
		if e := eventOf[*event.Late](t, seen, "late"); e.Elapsed != time.Minute || e.Phase != event.PhaseStart {
			t.Errorf("event %+v", e.Details())
		}
	})
}

func TestAComponentThatFailsLateIsAborted(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		f := &fake{OnStart: script{Delay: time.Minute, Stubborn: true, Fail: 1}}
		reg.Add("late", f.As(aborts))
		wantErr(t, reg.Start(within(t, time.Second)), lifecycle.ErrStartTimeout)
		if f.Calls(event.PhaseAbort) != 1 {
			t.Error("not aborted by the rollback")
		}
		advance(time.Minute)
		if f.Calls(event.PhaseAbort) != 2 || f.Calls(event.PhaseStop) != 0 {
			t.Errorf("abort called %d times, stop %d; want 2, 0", f.Calls(event.PhaseAbort), f.Calls(event.PhaseStop))
		}
	})
}

func TestTheRestIsCancelledWhenOneFails(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		boom := errors.New("boom")
		slow := &fake{OnStart: script{Delay: time.Hour}}
		stubborn := &fake{OnStart: script{Delay: 3 * time.Second, Stubborn: true}}
		reg.Add("slow", slow.As(aborts))
		reg.Add("stubborn", stubborn)
		reg.Add("bad", &fake{OnStart: script{Delay: time.Second, Fail: 1, Err: boom}})
		began := time.Now()
		err := reg.Start(t.Context())
		wantErr(t, err, boom)
		if errors.Is(err, context.Canceled) {
			t.Errorf("the error blames those that were cancelled: %v", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3s: until stubborn was up", took)
		}
		if slow.Calls(event.PhaseAbort) != 1 || stubborn.Calls(event.PhaseStop) != 1 {
			t.Error("want slow aborted, and stubborn, which came up after all, stopped")
		}
		if again := reg.Shutdown(t.Context()); again != nil {
			t.Errorf("everything is down, but Shutdown says %v", again)
		}
	})
}

func TestEveryWayOfNotReturningFromAPhaseIsAnError(t *testing.T) {
	ouch := errors.New("ouch")
	for name, s := range map[string]script{
		"panic with an error": {Panic: ouch}, "panic": {Panic: 42}, "exit": {Goexit: true},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				ce := componentError(t, err, "bad")
				if s.Goexit {
					wantErr(t, ce, lifecycle.ErrGoexit)
					return
				}
				p, ok := errors.AsType[*lifecycle.PanicError](ce)
				if !ok || p.Value != s.Panic {
					t.Fatalf("want a PanicError with %v: %v", s.Panic, err)
				}
				if s.Panic == any(ouch) {
					wantErr(t, ce, ouch)
				}
				if first, _, _ := strings.Cut(p.Stack, "\n"); !strings.Contains(first, "(*Fake).play") {
					t.Errorf("the stack does not begin where it panicked:\n%s", p.Stack)
				}
				if strings.Contains(p.Stack, "lifecycle.(*Registry)") {
					t.Errorf("the stack shows our own machinery:\n%s", p.Stack)
				}
			}
			reg := lifecycle.New(quiet())
			db, top := &fake{}, &fake{}
			reg.Add("db", db)
			reg.Add("bad", &fake{OnStart: s}, lifecycle.WithDependencies("db"))
			reg.Add("top", top, lifecycle.WithDependencies("bad"))
			check(reg.Start(t.Context()))
			if db.Calls(event.PhaseStop) != 1 || top.Calls(event.PhaseStart) != 0 {
				t.Error("not rolled back")
			}

			reg = lifecycle.New(quiet())
			db, top = &fake{}, &fake{}
			reg.Add("db", db)
			reg.Add("bad", &fake{OnStop: s}, lifecycle.WithDependencies("db"))
			reg.Add("top", top, lifecycle.WithDependencies("bad"))
			mustStart(t, reg)
			check(reg.Shutdown(t.Context()))
			if db.Calls(event.PhaseStop) != 1 || top.Calls(event.PhaseStop) != 1 {
				t.Error("the rest was not stopped")
			}
		})
	}
}

func TestStartIsForOnce(t *testing.T) {
	reg := lifecycle.New(quiet())
	mustStart(t, reg)
	wantErr(t, reg.Start(t.Context()), lifecycle.ErrStarted)
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, reg.Start(t.Context()), lifecycle.ErrShutdown)
}

func TestStartWithAnEndedContextStartsNothingAndAbortsAll(t *testing.T) { // INV-13
	reg := lifecycle.New(quiet())
	f := &fake{}
	reg.Add("pool", f.As(aborts))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, reg.Start(ctx), context.Canceled)
	if f.Calls(event.PhaseStart) != 0 || f.Calls(event.PhaseAbort) != 1 {
		t.Error("want no Start and one Abort")
	}
}

func TestCancellingStartRollsBack(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		db := &fake{}
		reg.Add("db", db)
		reg.Add("slow", &fake{OnStart: script{Delay: time.Hour}}, lifecycle.WithDependencies("db"))
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		defer after(time.Second, func() { cancel(enough) })()
		wantErr(t, reg.Start(ctx), enough)
		if db.Calls(event.PhaseStop) != 1 {
			t.Error("db was not stopped")
		}
	})
}

func TestShutdownDuringStartTakesDownWhatIsUpAndWhatComesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		db, never := &fake{}, &fake{}
		stubborn := &fake{OnStart: script{Delay: 5 * time.Second, Stubborn: true}}
		hung := &fake{OnStart: hangs()}
		reg.Add("db", db)
		reg.Add("stubborn", stubborn.As(drains), lifecycle.WithDependencies("db"))
		reg.Add("hung", hung.As(aborts), lifecycle.WithDependencies("db")) // Abort releases it
		reg.Add("never", never, lifecycle.WithDependencies("stubborn"))
		var startErr error
		wait := after(0, func() { startErr = reg.Start(t.Context()) })
		advance(time.Second)
		began := time.Now()
		err := reg.Shutdown(within(t, 20*time.Second))
		wait()
		wantErr(t, startErr, lifecycle.ErrShutdown)
		wantErr(t, componentError(t, err, "hung"), lifecycle.ErrStartTimeout)
		if took := time.Since(began); took != 10*time.Second-100*time.Millisecond {
			t.Errorf("took %v, want the half for hung, less what is kept back for Abort", took)
		}
		if db.Calls(event.PhaseStop) != 1 || stubborn.Calls(event.PhaseDrain) != 1 || never.Calls(event.PhaseStart) != 0 {
			t.Error("want db stopped, stubborn drained, never not started")
		}
		if reg.Health().Report().Ready() {
			t.Error("ready")
		}
	})
}

func TestContextOfStartCarriesValuesLabelsAndEndsWithTheCall(t *testing.T) {
	type key struct{}
	var leaked context.Context
	reg := lifecycle.New(quiet())
	reg.Add("a", lifecycle.Hooks{OnStart: func(ctx context.Context) error {
		leaked = ctx //nolint:fatcontext // to see that it has ended
		if ctx.Value(key{}) != "v" {
			t.Error("the value of Start's context is missing")
		}
		for label, want := range map[string]string{"team": "payments", lifecycle.LabelComponent: "a"} {
			if got, _ := pprof.Label(ctx, label); got != want {
				t.Errorf("label %s is %q, want %q", label, got, want)
			}
		}
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		if d, ok := ctx.Deadline(); !ok || time.Until(d) <= 0 || child.Err() != nil {
			t.Error("the context has ended, or has no deadline")
		}
		return nil
	}})
	ctx := pprof.WithLabels(context.WithValue(t.Context(), key{}, "v"), pprof.Labels("team", "payments"))
	if err := reg.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if leaked.Err() == nil {
		t.Error("the context is alive after the call")
	}
	select {
	case <-leaked.Done():
	default:
		t.Error("Done is open after the call")
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNoGoroutineForAnIdleComponent(t *testing.T) {
	reg := lifecycle.New(quiet())
	const n = 2000
	for i := range n {
		reg.Add(fmt.Sprint("n", i), noop{})
	}
	before := runtime.NumGoroutine()
	mustStart(t, reg)
	// The callers of components end on their own time.
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before+3 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if now := runtime.NumGoroutine(); now > before+3 {
		t.Errorf("%d goroutines for %d idle components", now-before, n)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestComponentsThatBlockAllRunAtOnce(t *testing.T) {
	reg := lifecycle.New(quiet())
	const n = 500
	var inside atomic.Int32
	all := make(chan struct{})
	for i := range n {
		reg.Add(fmt.Sprint("n", i), lifecycle.Hooks{OnStart: func(ctx context.Context) error {
			if inside.Add(1) == n {
				close(all)
			}
			select {
			case <-all: // only when every other one is in its Start, too
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
	}
	mustStart(t, reg)
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTenThousandNodesWithNineHundredThousandEdgesAreOrdinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large graph")
	}
	reg := lifecycle.New(quiet())
	const n, fan = 10_000, 90
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprint("n", i)
		reg.Add(names[i], noop{}, lifecycle.WithDependencies(names[max(0, i-fan):i]...))
	}
	began := time.Now()
	mustStart(t, reg)
	if err := reg.Shutdown(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d components, %d edges: %v", n, n*fan, time.Since(began))
}
