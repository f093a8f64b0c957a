package health_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

func TestReadyFollowsTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		wantReady(t, m, false, "before Start")
		start(t, m)
		settle()
		wantReady(t, m, true, "healthy")
		db.say(errDown)
		advance(14 * time.Second) // an interval with its jitter, two retries, and some
		wantReady(t, m, false, "down")
		db.say(nil)
		advance(11 * time.Second) // the last step of the back-off
		wantReady(t, m, true, "mended")
	})
}

func TestReadyWithoutChecksOnceStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		wantReady(t, m, false, "before Start")
		start(t, m)
		wantReady(t, m, true, "started")
		stop(t, m)
		wantReady(t, m, false, "stopped")
	})
}

// A critical check counts as failed until its first result, a degrading one as degraded.
func TestUnknownIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var slow script
		register(t, m, health.Check{Name: "later", Probe: slow.probe, InitialDelay: time.Minute})
		start(t, m)
		advance(59 * time.Second)
		wantReady(t, m, false, "within the initial delay")
		advance(2 * time.Second)
		wantReady(t, m, true, "after it")

		register(t, m, health.Check{Name: "extra", Probe: slow.probe, InitialDelay: time.Minute, Impact: health.ImpactDegrading})
		wantReady(t, m, true, "a degrading check without result")
		if g, _ := m.Report().Group(health.GroupReady); g.Status != health.StatusWarn {
			t.Errorf("status %v", g.Status)
		}
	})
}

// INV-3.
func TestDrainingIsNotReadyAtOnceAndForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, Interval: time.Second})
		start(t, m)
		settle()
		wantReady(t, m, true, "healthy")
		m.SetDraining()
		wantReady(t, m, false, "draining")
		m.Hold("restart")()
		for range 100 {
			advance(time.Second)
			wantReady(t, m, false, "draining")
		}
		if w := get(health.Handler(m), "/livez"); w.Code != http.StatusOK {
			t.Errorf("/livez while draining: %d", w.Code)
		}
		m.SetDraining()
		stop(t, m)
		wantReady(t, m, false, "stopped")
	})
}

// INV-3: no request that begins after SetDraining returned is told ready, however many verdicts
// arrive meanwhile.
func TestNothingIsReadyAfterDrainingUnderConcurrency(t *testing.T) {
	m := health.New(health.Config{Interval: time.Millisecond, MaxConcurrent: 4})
	var flip script
	n := 0
	flip.do(func(context.Context) error { // one run at a time
		if n++; n%2 == 0 {
			return errDown
		}
		return nil
	})
	for _, name := range []string{"a", "b", "c"} {
		register(t, m, health.Check{Name: name, Probe: func(context.Context) error { return nil }})
	}
	register(t, m, health.Check{Name: "flip", Probe: flip.probe, FailureThreshold: 1, Impact: health.ImpactDegrading})
	start(t, m)
	h := health.Handler(m)
	var wg sync.WaitGroup
	drained := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			<-drained
			for range 2000 {
				if get(h, "/readyz").Code == http.StatusOK || m.Report().Ready() {
					t.Error("ready after SetDraining returned")
					return
				}
			}
		})
	}
	m.SetDraining()
	close(drained)
	wg.Wait()
}

func TestHoldsKeepReadinessBackUntilTheLastIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		first := m.Hold("starting\n with password=hunter2")
		start(t, m)
		second := m.Hold("restart of worker")
		wantReady(t, m, false, "two holds")
		if r := m.Report(); len(r.Holds) != 2 || r.Holds[0].Reason != "starting with password=***" || r.Holds[1].Reason != "restart of worker" {
			t.Errorf("holds %+v", r.Holds)
		}
		first()
		first() // counts once
		wantReady(t, m, false, "one hold")
		second()
		wantReady(t, m, true, "none")
	})
}

func TestStartupStaysTrueOnceItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		h := health.Handler(m)
		want := func(code int, when string) {
			t.Helper()
			if w := get(h, "/startupz"); w.Code != code {
				t.Errorf("%s: /startupz answers %d, want %d", when, w.Code, code)
			}
		}
		var warm script
		warm.say(errDown)
		register(t, m, health.Check{Name: "warm", Probe: warm.probe, Groups: []string{health.GroupStartup}})
		release := m.Hold("starting")
		want(503, "before Start")
		if groupOK(m, health.GroupStartup) {
			t.Error("the report says started up before Start")
		}
		start(t, m)
		settle()
		want(503, "held and failing")
		release()
		want(503, "failing")
		warm.say(nil)
		advance(5 * time.Second)
		want(200, "started")
		if !groupOK(m, health.GroupStartup) {
			t.Error("the report says not started up")
		}
		warm.say(errDown)
		advance(time.Minute)
		want(200, "a check of the group fails later")
		defer m.Hold("restart")()
		want(200, "held later")
		m.SetDraining()
		want(200, "draining")
		stop(t, m)
		want(200, "stopped")
	})
}

func TestRegisterRefusesWhatCannotWork(t *testing.T) {
	m := health.New(health.Config{})
	ok := func(context.Context) error { return nil }
	if _, err := m.Register(health.Check{Name: "db", Probe: ok}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Register(health.Check{Name: "db", Probe: ok}); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("a name twice: %v", err)
	}
	// Every fault of a check is told at once.
	_, err := m.Register(health.Check{
		Name: " ", Impact: 7, Groups: []string{health.GroupLive, "a/b", ""}, Interval: -1, Timeout: -1, Jitter: 2,
		InitialDelay: -1, FailureThreshold: -1, SuccessThreshold: -1,
	})
	for _, want := range []string{
		"white space", "Probe is nil", "Impact 7", "heartbeats only", "slash", "empty", "Interval", "Timeout", "Jitter",
		"InitialDelay", "FailureThreshold", "SuccessThreshold",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in: %v", want, err)
		}
	}
	stop(t, m)
	if _, err := m.Register(health.Check{Name: "late", Probe: ok}); !errors.Is(err, health.ErrStopped) {
		t.Errorf("after Stop: %v", err)
	}
}

func TestCheckIsJudgedWithTheMonitorsDefaults(t *testing.T) {
	ok := func(context.Context) error { return nil }
	c := health.Check{Name: "db", Probe: ok, MaxAge: time.Second}
	standard := health.New(health.Config{})
	if err := standard.Validate(c); err == nil {
		t.Error("a MaxAge of 1 s with an interval of 10 s is no fault")
	}
	m := health.New(health.Config{Interval: 100 * time.Millisecond, Timeout: 50 * time.Millisecond})
	if _, err := m.Register(c); err != nil {
		t.Errorf("a MaxAge of 1 s with an interval of 100 ms: %v", err)
	}
	for name, c := range map[string]health.Check{
		"retry more than the default interval": {Name: "a", Probe: ok, RetryInterval: time.Minute},
		"name of 201 bytes":                    {Name: strings.Repeat("n", 201), Probe: ok},
		"name with a line break":               {Name: "a\nb", Probe: ok},
		"name that is not UTF-8":               {Name: "a\xffb", Probe: ok},
	} {
		if standard.Validate(c) == nil {
			t.Errorf("%s is no fault", name)
		}
	}
}

func TestStartReturnsEveryFaultOfTheConfiguration(t *testing.T) {
	cfg := health.Config{Interval: -1, RetryInterval: -1, Timeout: -1, Jitter: -1, FailureThreshold: -1, SuccessThreshold: -1, MaxConcurrent: -1}
	m := health.New(cfg)
	err := m.Start(t.Context())
	for _, want := range []string{"Interval", "RetryInterval", "Timeout", "Jitter", "FailureThreshold", "SuccessThreshold", "MaxConcurrent"} {
		if err == nil || !strings.Contains(err.Error(), " "+want+" ") {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
	if err := (health.Config{}).Validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	if err := (health.Config{RetryInterval: time.Minute}).Validate(); err == nil {
		t.Error("a RetryInterval above the default interval is no fault")
	}
	wantReady(t, m, false, "a monitor that could not start")
	stop(t, m)
}

func TestStartAndStopInEveryOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Start(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("Start under a context that has ended: %v", err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err == nil || err.Error() != "health: monitor is already started" {
			t.Errorf("second Start: %v", err)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { stop(t, m) })
		}
		wg.Wait()
		if err := m.Start(t.Context()); !errors.Is(err, health.ErrStopped) {
			t.Errorf("Start after Stop: %v", err)
		}
		stop(t, health.New(health.Config{})) // without Start
	})
}

// The context of Start bounds Start, not the checks: a caller may cancel it.
func TestChecksOutliveTheContextOfStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		type key struct{}
		var saw any
		var db script
		db.do(func(ctx context.Context) error {
			saw = ctx.Value(key{})
			return ctx.Err()
		})
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		if err := m.Start(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		advance(30 * time.Second)
		wantReady(t, m, true, "after the end of Start's context")
		stop(t, m)
		if saw != "value" {
			t.Errorf("a probe's context does not have Start's values: %v", saw)
		}
	})
}

// INV-6. The first Stop names the probe that hangs, and a later one sees it gone.
func TestStopReturnsByItsContextAndNamesTheHungProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		release := make(chan struct{})
		register(t, m, health.Check{Name: "stuck", Probe: hangUntil(release)})
		register(t, m, health.Check{Name: "polite", Probe: untilDone})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		err := m.Stop(ctx)
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("Stop took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"stuck"`) || strings.Contains(err.Error(), "polite") {
			t.Errorf("Stop with a hung probe: %v", err)
		}
		close(release)
		synctest.Wait()
		if err := m.Stop(ctx); err != nil {
			t.Errorf("Stop once it returned: %v", err)
		}
	})
}

func TestRemovedCheckIsForgottenAtOnceAndItsNameIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var bad script
		bad.say(errDown)
		r := register(t, m, health.Check{Name: "bad", Probe: bad.probe, Groups: []string{health.GroupReady, "extra"}})
		start(t, m)
		settle()
		wantReady(t, m, false, "a check fails")
		if err := r.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantReady(t, m, true, "it is gone")
		if w := get(health.Handler(m), "/groupz/extra"); w.Code != http.StatusNotFound {
			t.Errorf("its group answers %d", w.Code)
		}
		n := bad.runs()
		advance(time.Minute)
		if bad.runs() != n {
			t.Error("it still runs")
		}
		r.Observe(errDown) // says nothing to anybody
		if err := r.Remove(t.Context()); err != nil {
			t.Errorf("second Remove: %v", err)
		}
		register(t, m, health.Check{Name: "bad", Probe: bad.probe})
		settle()
		wantReady(t, m, false, "registered again")
	})
}

// INV-6: go-sundheit deadlocks on the second.
func TestRemoveTwiceWithHungProbeReturnsByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{MaxConcurrent: 1})
		release := make(chan struct{})
		stuck := register(t, m, health.Check{Name: "stuck", Probe: hangUntil(release)})
		start(t, m)
		settle()
		var other script
		register(t, m, health.Check{Name: "other", Probe: other.probe})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := stuck.Remove(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stuck") {
				t.Errorf("Remove of a hung check: %v", err)
			}
		}
		wantReady(t, m, true, "the hung check is gone, and its place is free")
		close(release)
		synctest.Wait()
		if err := stuck.Remove(t.Context()); err != nil {
			t.Errorf("Remove once it returned: %v", err)
		}
	})
}

// Checks come and go while pages are read, verdicts change and the monitor stops.
func TestEverythingAtOnceIsRaceFree(t *testing.T) {
	m := health.New(health.Config{Interval: time.Millisecond, Timeout: time.Millisecond, OnTransition: func(health.Transition) {}})
	start(t, m)
	h := health.Handler(m, health.WithDetails(everybody))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := m.Watch(ctx)
	var wg sync.WaitGroup
	for i := range 4 {
		name := string(rune('a' + i))
		wg.Go(func() {
			for n := range 100 {
				r, err := m.Register(health.Check{Name: name, DependsOn: []string{"a"}, Probe: func(context.Context) error {
					if n%3 == 0 {
						return errDown
					}
					return nil
				}})
				if err != nil {
					t.Error(err)
					return
				}
				r.Observe(nil)
				r.Observe(errDown)
				if err := r.Remove(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				get(h, "/readyz?verbose&exclude="+name)
				get(h, "/livez", "Accept", "application/json")
				m.Report()
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			m.Hold("x")()
			if hb, err := m.Heartbeat("loop", time.Minute); err == nil {
				hb.Beat()
				hb.Stop()
			}
		}
	})
	go func() { // ends when the test's context does, or the monitor is stopped
		for range changes {
		}
	}()
	wg.Wait()
}

func TestDrainingIsToldOnceReadinessIsFalse(t *testing.T) {
	m := health.New(health.Config{})
	select {
	case <-m.Draining():
		t.Fatal("draining before SetDraining")
	default:
	}
	m.SetDraining()
	m.SetDraining()
	<-m.Draining()
	if m.Report().Ready() {
		t.Fatal("ready while draining")
	}
}
