package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
)

var errDied = errors.New("it died")

func TestDeathShutsDownInOrderAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		var j lifecycletest.Journal
		mortal := &fake{Journal: &j}
		reg.Add("db", &fake{Journal: &j})
		reg.Add("mortal", mortal, lifecycle.WithDependencies("db"))
		reg.Add("api", &fake{Journal: &j}, lifecycle.WithDependencies("mortal"))
		mustStart(t, reg)
		advance(time.Hour)
		mortal.Die(errDied)
		<-reg.Done()
		err := reg.Shutdown(t.Context())
		ce := componentError(t, err, "mortal")
		if ce.Phase != event.PhaseRun || ce.Elapsed != time.Hour {
			t.Errorf("died in %s after %v, want run after 1h", ce.Phase, ce.Elapsed)
		}
		wantErr(t, err, errDied)
		want := []string{"api: stop", "api: stop done", "mortal: stop", "mortal: stop done", "db: stop", "db: stop done"}
		if got := j.Lines()[6:]; !slices.Equal(got, want) {
			t.Errorf("journal %q, want %q", got, want)
		}
		if e := eventOf[*event.Died](t, seen, "mortal"); e.Policy != "shutdown" || e.Elapsed != time.Hour {
			t.Errorf("event %+v", e.Details())
		}
		if e := eventOf[*event.ShuttingDown](t, seen, ""); !errors.Is(e.Err, errDied) {
			t.Errorf("event %+v", e.Details())
		}
	})
}

func TestIgnoredDeathIsOnlySeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		f := &fake{}
		reg.Add("mortal", f, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
		mustStart(t, reg)
		f.Die(errDied)
		synctest.Wait()
		s := reg.Status()
		c, _ := s.Component("mortal")
		if c.State != lifecycle.StateDead || !errors.Is(c.Err, errDied) || s.Phase != "up" || !reg.Health().Report().Ready() {
			t.Errorf("state %s, error %v, phase %s", c.State, c.Err, s.Phase)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if f.Calls(event.PhaseStop) != 1 {
			t.Error("the dead component was not stopped: it may hold something")
		}
	})
}

func TestCompletionIsNoDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		reg.Go("once", func(context.Context) error { time.Sleep(time.Second); return nil })
		closes := &fake{}
		reg.Add("closes", closes)
		mustStart(t, reg)
		advance(2 * time.Second)
		closes.Die(nil)
		synctest.Wait()
		for _, name := range []string{"once", "closes"} {
			if got := stateOf(t, reg, name); got != lifecycle.StateCompleted {
				t.Errorf("%s is %s, want completed", name, got)
			}
			eventOf[*event.Completed](t, seen, name)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDeathDuringStartFailsIt(t *testing.T) { // INV-13
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		mortal := &fake{}
		reg.Add("mortal", mortal)
		reg.Add("slow", &fake{OnStart: script{Delay: time.Minute}})
		defer after(time.Second, func() { mortal.Die(errDied) })()
		began := time.Now()
		wantErr(t, reg.Start(t.Context()), errDied)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
		if mortal.Calls(event.PhaseStop) != 1 {
			t.Error("not stopped")
		}
	})
}

func TestDeathDuringShutdownIsReportedAndStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.DrainDelay = time.Second
		reg := lifecycle.New(cfg)
		early, late := &fake{}, &fake{}
		reg.Add("early", early)
		reg.Add("late", late)
		reg.Add("slow", &fake{OnStop: script{Delay: 2 * time.Second}}, lifecycle.WithDependencies("early", "late"))
		mustStart(t, reg)
		defer after(500*time.Millisecond, func() { early.Die(errDied) })()
		other := errors.New("another death")
		defer after(2*time.Second, func() { late.Die(other) })()
		wantErr(t, reg.Shutdown(t.Context()), errDied, other)
	})
}

func TestAWatchedComponentCostsOneGoroutineUntilItDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		fakes := make([]*fake, 1000)
		for i := range fakes {
			fakes[i] = &fake{}
			reg.Add(fmt.Sprint("n", i), fakes[i], lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
		}
		before := runtime.NumGoroutine()
		mustStart(t, reg)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 1000+20 {
			t.Errorf("%d goroutines to watch 1,000 components", n)
		}
		for _, f := range fakes {
			f.Die(errDied)
		}
		synctest.Wait()
		for _, c := range reg.Status().Components {
			if c.State != lifecycle.StateDead {
				t.Fatalf("%s is %s, want dead", c.Name, c.State)
			}
		}
		if n := runtime.NumGoroutine() - before; n > 20 {
			t.Errorf("%d goroutines left, of 1,000 that watched", n)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRestartStopsDependentsFirstAndBringsAllBackWithReadinessOff(t *testing.T) { // INV-1, INV-3
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		var j lifecycletest.Journal
		mortal := &fake{Journal: &j}
		reg.Add("db", &fake{Journal: &j})
		reg.Add("mortal", mortal, lifecycle.WithDependencies("db"), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("top", &fake{Journal: &j}, lifecycle.WithDependencies("mortal"))
		reg.Add("aside", &fake{Journal: &j}, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		before := len(j.Lines())
		mortal.Die(errDied)
		synctest.Wait()
		if reg.Health().Report().Ready() {
			t.Error("ready while something is down")
		}
		advance(time.Second)
		want := []string{
			"top: stop", "top: stop done", "mortal: stop", "mortal: stop done",
			"mortal: start", "mortal: start done", "top: start", "top: start done",
		}
		if got := j.Lines()[before:]; !slices.Equal(got, want) {
			t.Errorf("journal %q, want %q", got, want)
		}
		if !reg.Health().Report().Ready() {
			t.Error("not ready after the restart")
		}
		e := eventOf[*event.Restarting](t, seen, "mortal")
		if e.Attempt != 1 || e.Delay < 500*time.Millisecond || e.Delay > time.Second || !slices.Equal(e.With, []string{"top"}) {
			t.Errorf("event: attempt %d, delay %v, with %v", e.Attempt, e.Delay, e.With)
		}
		s := reg.Status()
		if c, _ := s.Component("mortal"); c.Restarts != 1 || c.State != lifecycle.StateUp {
			t.Errorf("restarts %d, state %s", c.Restarts, c.State)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRestartsBackOffAndStartAfreshAfterAHealthySpell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		seen := record(reg)
		var lives atomic.Int32
		reg.Go("worker", func(ctx context.Context) error {
			if lives.Add(1) == 9 {
				time.Sleep(2 * time.Minute) // a healthy spell
			}
			return errDied
		}, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		mustStart(t, reg)
		advance(10 * time.Minute)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		var delays []time.Duration
		for _, e := range seen.all() {
			if r, ok := e.(*event.Restarting); ok {
				delays = append(delays, r.Delay)
			}
		}
		wants := []int{1, 2, 4, 8, 16, 30, 30, 30, 1, 2}
		if len(delays) < len(wants) {
			t.Fatalf("only %d restarts", len(delays))
		}
		for i, seconds := range wants {
			want := time.Duration(seconds) * time.Second
			if delays[i] < want/2 || delays[i] > want {
				t.Errorf("delay %d is %v, want %v to %v", i+1, delays[i], want/2, want)
			}
		}
	})
}

func TestRestartGoesOnWhenTheStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var mortalStarts, topStarts atomic.Int32
		mortal := newMortal()
		mortal.start = func(context.Context) error {
			if mortalStarts.Add(1) == 2 {
				return errors.New("not yet")
			}
			return nil
		}
		reg.Add("mortal", mortal, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("top", lifecycle.Hooks{OnStart: func(context.Context) error {
			if topStarts.Add(1) == 2 {
				return errors.New("not me either")
			}
			return nil
		}}, lifecycle.WithDependencies("mortal"))
		reg.Add("beside", &fake{OnStart: script{Delay: time.Second}}, lifecycle.WithDependencies("mortal"))
		mustStart(t, reg)
		mortal.died <- errDied
		advance(time.Minute)
		for _, name := range []string{"mortal", "top", "beside"} {
			if got := stateOf(t, reg, name); got != lifecycle.StateUp {
				t.Errorf("%s is %s, want up", name, got)
			}
		}
		if !reg.Health().Report().Ready() {
			t.Error("not ready")
		}
		if mortalStarts.Load() < 3 || topStarts.Load() < 3 {
			t.Errorf("mortal was started %d times, top %d; want 3 at least", mortalStarts.Load(), topStarts.Load())
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// mortal is a restartable component whose channel outlives its restarts.
type mortal struct {
	start func(context.Context) error
	died  chan error
}

func newMortal() *mortal { return &mortal{died: make(chan error, 1)} }

func (m *mortal) Start(ctx context.Context) error {
	if m.start == nil {
		return nil
	}
	return m.start(ctx)
}
func (m *mortal) Stop(context.Context) error { return nil }
func (m *mortal) Done() <-chan error         { return m.died }
func (m *mortal) Restartable() bool          { return true }

func TestTwoDeathsAtOnceAreMendedTogetherAndApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		a, b := &fake{}, &fake{}
		both := &fake{}
		reg.Add("a", a, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("b", b, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("both", both, lifecycle.WithDependencies("a", "b"))
		mustStart(t, reg)
		for range 5 { // b comes back later each time
			b.Die(errDied)
			advance(40 * time.Second)
		}
		a.Die(errDied)
		b.Die(errDied)
		advance(10 * time.Second)
		if stateOf(t, reg, "a") != lifecycle.StateUp || stateOf(t, reg, "b") != lifecycle.StateStopped {
			t.Errorf("a is %s, b is %s; want a up long before b", stateOf(t, reg, "a"), stateOf(t, reg, "b"))
		}
		if stateOf(t, reg, "both") != lifecycle.StateStopped || reg.Health().Report().Ready() {
			t.Error("both is up, or we are ready, with b down")
		}
		advance(30 * time.Second)
		if stateOf(t, reg, "both") != lifecycle.StateUp || !reg.Health().Report().Ready() {
			t.Error("not mended")
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestADependentThatDiesOfItsDependencyComesBackWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		a, top := &fake{OnStop: script{Delay: time.Second}}, &fake{OnStop: script{Delay: time.Second}}
		reg.Add("a", a, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		reg.Add("middle", top, lifecycle.WithDependencies("a"))
		reg.Add("top", &fake{OnStop: script{Delay: time.Second}}, lifecycle.WithDependencies("middle"))
		mustStart(t, reg)
		a.Die(errDied)
		advance(500 * time.Millisecond)
		top.Die(errDied) // its policy is to shut down
		advance(10 * time.Second)
		s := reg.Status()
		if s.Phase != "up" || stateOf(t, reg, "top") != lifecycle.StateUp {
			t.Errorf("phase %s, top %s", s.Phase, stateOf(t, reg, "top"))
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAComponentThatHangsInARestartShutsDown(t *testing.T) {
	for name, f := range map[string]*fake{
		"in stop":  {OnStop: hangs()},
		"in start": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := quiet()
				cfg.StartTimeout, cfg.ShutdownTimeout = 10*time.Second, 10*time.Second
				reg := lifecycle.New(cfg)
				db, mortal := &fake{}, newMortal()
				release := make(chan struct{})
				var starts atomic.Int32
				reg.Add("db", db)
				reg.Add("mortal", mortal, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart), lifecycle.WithDependencies("db"))
				if name == "in start" {
					mortal.start = func(context.Context) error {
						if starts.Add(1) > 1 {
							<-release
						}
						return nil
					}
				} else {
					reg.Add("top", f, lifecycle.WithDependencies("mortal"))
				}
				mustStart(t, reg)
				mortal.died <- errDied
				<-reg.Done()
				err := reg.Shutdown(t.Context())
				wantText(t, err.Error(), "it hangs, so it cannot be started again")
				if db.Calls(event.PhaseStop) != 1 {
					t.Error("db was not stopped")
				}
				close(release)
				f.Release()
			})
		})
	}
}

func TestShutdownDuringARestartTakesOver(t *testing.T) { // INV-2, INV-3
	for name, at := range map[string]time.Duration{
		"while stopping": 500 * time.Millisecond, "while waiting": 1200 * time.Millisecond, "while starting": 3 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := lifecycle.New(quiet())
				var j lifecycletest.Journal
				mortal := &fake{Journal: &j, OnStop: script{Delay: time.Second}}
				top := &fake{Journal: &j}
				reg.Add("db", &fake{Journal: &j})
				reg.Add("mortal", mortal, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart), lifecycle.WithDependencies("db"))
				reg.Add("slow", &fake{OnStart: script{Delay: 3 * time.Second}}, lifecycle.WithDependencies("mortal"))
				reg.Add("top", top, lifecycle.WithDependencies("slow"))
				mustStart(t, reg)
				mortal.Die(errDied)
				time.Sleep(at)
				if err := reg.Shutdown(within(t, 20*time.Second)); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				lines := j.Lines()
				if last := lines[len(lines)-1]; last != "db: stop done" {
					t.Errorf("last line %q: %q", last, lines)
				}
				if reg.Health().Report().Ready() {
					t.Error("ready")
				}
				for _, c := range reg.Status().Components {
					if c.State != lifecycle.StateStopped {
						t.Errorf("%s is %s", c.Name, c.State)
					}
				}
			})
		})
	}
}

func TestWorkerStopsCleanlyWhenItHeedsItsContext(t *testing.T) {
	for name, fn := range map[string]func(context.Context) error{
		"returns nil":           func(ctx context.Context) error { <-ctx.Done(); return nil },
		"returns the error":     func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"returns it wrapped":    func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("loop: %w", ctx.Err()) },
		"completed long before": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			reg.Go("worker", fn)
			mustStart(t, reg)
			if err := reg.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWorkerThatPanicsOrExitsHasDied(t *testing.T) {
	for name, fn := range map[string]func(context.Context) error{
		"panic": func(context.Context) error { panic(errDied) },
		"exit":  func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			reg.Go("worker", fn)
			started := reg.Start(t.Context()) // it may die before that has returned
			<-reg.Done()
			err := errors.Join(started, reg.Shutdown(t.Context()))
			if name == "exit" {
				wantErr(t, err, lifecycle.ErrGoexit)
				return
			}
			wantErr(t, err, errDied)
			p, ok := errors.AsType[*lifecycle.PanicError](err)
			if !ok {
				t.Fatalf("no PanicError: %v", err)
			}
			wantText(t, p.Error(), "panic: it died, at lifecycle_test.TestWorkerThatPanicsOrExitsHasDied")
		})
	}
}

func TestWorkerThatDoesNotEndIsAbandonedWithItsStack(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		db := &fake{}
		reg.Add("db", db)
		reg.Go("stuck", func(context.Context) error { stuckHere(release); return nil }, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		err := reg.Shutdown(within(t, 8*time.Second))
		ce := componentError(t, err, "stuck")
		wantErr(t, ce, lifecycle.ErrStopTimeout)
		wantText(t, ce.Stack, "lifecycle_test.stuckHere (")
		wantText(t, ce.Error(), "at lifecycle_test.stuckHere (death_test.go:")
		if got := stateOf(t, reg, "stuck"); got != lifecycle.StateAbandoned {
			t.Errorf("state %s, want abandoned", got)
		}
		if db.Calls(event.PhaseStop) != 1 {
			t.Error("db was not stopped")
		}
		close(release)
	})
}

func stuckHere(release chan struct{}) { <-release }

func TestWorkerReportsWhatItReturnsWhenStopped(t *testing.T) {
	reg := lifecycle.New(quiet())
	lost := errors.New("3 messages lost")
	reg.Go("worker", func(ctx context.Context) error { <-ctx.Done(); return lost })
	mustStart(t, reg)
	wantErr(t, componentError(t, reg.Shutdown(t.Context()), "worker"), lost)
}
