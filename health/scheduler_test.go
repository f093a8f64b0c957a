package health_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// roughly is whether d is want, but for the billionth that NoJitter leaves.
func roughly(d, want time.Duration) bool {
	return max(d-want, want-d) <= time.Millisecond
}

func TestFailingCheckIsDecidedAtRetryIntervalThenBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Minute, Jitter: poolkeeper.NoJitter})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, RetryInterval: 3 * time.Second, SuccessThreshold: 2})
		start(t, m)
		settle()
		db.say(errDown)
		for db.runs() < 2 { // the first run on the grid finds it down
			time.Sleep(100 * time.Millisecond)
		}
		begin := time.Now()
		at := func(i int) time.Duration { return db.since(begin)[i] - db.since(begin)[1] }
		advance(100 * time.Second)
		want := []int{0, 3, 6, 7, 9, 13, 21, 37, 67, 97} // two retries, then 1, 2, 4, 8, 16, 30, 30 s
		for i, w := range want {
			if got := at(i + 1); !roughly(got, time.Duration(w)*time.Second) {
				t.Errorf("run %d is %v after the first failure, want %d s", i+1, got, w)
			}
		}
		wantReady(t, m, false, "down")
		db.say(nil)
		n := db.runs()
		advance(28 * time.Second) // the first comes 97+30 s after the first failure, the second 3 s later
		wantReady(t, m, false, "one success of two")
		advance(3 * time.Second)
		wantReady(t, m, true, "two successes")
		if got := db.since(begin)[n+1] - db.since(begin)[n]; !roughly(got, 3*time.Second) {
			t.Errorf("the second success came %v after the first, RetryInterval is 3 s", got)
		}
	})
}

// A frozen server (SIGSTOP) answers nothing: not ready within Timeout × FailureThreshold of the
// first run that meets it, and the probe answers all the while.
func TestFrozenDependencyIsNotReadyWithinTimeoutTimesThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, Timeout: 2 * time.Second, FailureThreshold: 3})
		start(t, m)
		settle()
		db.do(untilDone)
		n := db.runs()
		for db.runs() == n {
			time.Sleep(10 * time.Millisecond)
		}
		advance(5900 * time.Millisecond)
		wantReady(t, m, true, "before three time-outs of 2 s")
		advance(150 * time.Millisecond)
		wantReady(t, m, false, "after three")
		c, _ := m.Report().Check("db")
		if c.Fault.Kind != health.KindTimeout || c.Failures != 3 || !c.HungSince.IsZero() {
			t.Errorf("report: %+v", c)
		}
	})
}

// INV-6: at most one goroutine, shown with the time since which it runs; its result comes too late
// to count; then the check lives on.
func TestHungProbeCostsOneGoroutineAndIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second, Timeout: 100 * time.Millisecond, RetryInterval: 100 * time.Millisecond})
		var db, other script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		register(t, m, health.Check{Name: "other", Probe: other.probe})
		start(t, m)
		settle()
		release := make(chan struct{})
		db.do(hangUntil(release))
		n := db.runs()
		for db.runs() == n {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		others := other.runs()
		h := health.Handler(m, health.WithDetails(everybody))
		advance(250 * time.Millisecond) // one time-out, and one run that could not begin: not yet three failures
		if body := get(h, "/readyz/db?verbose").Body.String(); !strings.HasPrefix(body, "[+] db pass since ") || !strings.Contains(body, ", its probe runs since ") {
			t.Errorf("page of a check that hangs and is not yet decided: %s", body)
		}
		advance(30 * time.Second)
		if body := get(h, "/readyz", "Accept", "application/json").Body.String(); !strings.Contains(body, `"kind":"hung"`) || !strings.Contains(body, `"hung_since":"2000-`) {
			t.Errorf("page of a check that hangs: %s", body)
		}
		synctest.Wait()
		if got := goroutines(); got != 1 {
			t.Errorf("%d goroutines after 30 intervals", got)
		}
		if got := other.runs() - others; got < 29 {
			t.Errorf("another check ran %d times in 30 intervals", got)
		}
		wantReady(t, m, false, "hung")
		c, _ := m.Report().Check("db")
		if c.Fault.Kind != health.KindHung || c.HungSince.IsZero() || began.Sub(c.HungSince) > 10*time.Millisecond {
			t.Errorf("report: %+v, it began at %v", c, began)
		}
		if db.runs() != n+1 {
			t.Errorf("%d runs began while one hung", db.runs()-n-1)
		}
		db.say(errDown) // what it will say next
		close(release)  // now it returns nil, too late
		synctest.Wait()
		wantReady(t, m, false, "a late success")
		if c, _ := m.Report().Check("db"); !c.HungSince.IsZero() {
			t.Errorf("still shown as hung: %+v", c)
		}
		db.say(nil)
		advance(1100 * time.Millisecond)
		wantReady(t, m, true, "an interval after it came back")
	})
}

// INV-6.
func TestPanicAndGoexitFailOneCheckOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		m := health.New(health.Config{Interval: time.Second, Logger: log.logger()})
		var other script
		register(t, m, health.Check{Name: "other", Probe: other.probe})
		register(t, m, health.Check{Name: "panics", Probe: func(context.Context) error {
			panic("postgres://admin:hunter2@db: what?")
		}})
		register(t, m, health.Check{Name: "exits", Probe: func(context.Context) error {
			runtime.Goexit()
			return nil
		}})
		register(t, m, health.Check{Name: "bad-error", Probe: func(context.Context) error { return panickyError{} }})
		start(t, m)
		advance(10 * time.Second)
		wantReady(t, m, false, "three of four are broken")
		r := m.Report()
		for name, want := range map[string]string{"panics": "panicked", "exits": "Goexit", "bad-error": "panicked"} {
			c, _ := r.Check(name)
			if c.Status != health.StatusFail || c.Err == nil || !strings.Contains(c.Err.Error(), want) ||
				strings.Contains(c.Err.Error(), "hunter2") {
				t.Errorf("%s: %+v", name, c)
			}
		}
		c, _ := r.Check("panics")
		if c.Fault.Kind != health.KindPanic {
			t.Errorf("%+v", c)
		}
		if lines := log.take(); !strings.Contains(lines, "scheduler_test.go") || strings.Contains(lines, "hunter2") {
			t.Errorf("the log shows no stack of the panic, or a secret:\n%s", lines)
		}
		if other.runs() < 9 {
			t.Errorf("another check ran %d times in 10 s", other.runs())
		}
	})
}

// panickyError is an error whose text cannot be had.
type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

// A check that is registered late, or whose probe takes long, holds up no other check. Places are
// bounded, and checks that timed out last queue apart.
func TestConcurrencyIsBoundedAndHungChecksQueueApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		m := health.New(health.Config{MaxConcurrent: most, Interval: time.Second, Timeout: 500 * time.Millisecond})
		var running testkit.Crowd
		busy := func(ctx context.Context) error {
			defer running.Enter()()
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			return ctx.Err()
		}
		var good [20]script
		for i := range good {
			good[i].do(busy)
			register(t, m, health.Check{Name: fmt.Sprintf("good-%02d", i), Probe: good[i].probe})
		}
		start(t, m)
		advance(10 * time.Second)
		if got := running.Most(); got != most {
			t.Errorf("%d probes at once, want %d", got, most)
		}
		for i := range 40 { // far more than there are places
			register(t, m, health.Check{Name: fmt.Sprintf("frozen-%02d", i), Probe: untilDone, Impact: health.ImpactDegrading})
		}
		advance(10 * time.Second) // each has timed out once by now
		before := 0
		for i := range good {
			before += good[i].runs()
		}
		advance(10 * time.Second)
		after := 0
		for i := range good {
			after += good[i].runs()
		}
		if got := after - before; got < 190 {
			t.Errorf("20 good checks ran %d times in 10 intervals beside 40 frozen ones", got)
		}
		wantReady(t, m, true, "only degrading checks are frozen")
	})
}

// goroutines is how many there are now that the health package started.
func goroutines() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "created by github.com/poolkeeper/poolkeeper/health.")
}

func TestTenThousandIdleChecksHaveNoGoroutine(t *testing.T) {
	testkit.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Hour})
		for i := range 10_000 {
			register(t, m, health.Check{Name: fmt.Sprintf("check-%05d", i), Probe: func(context.Context) error { return nil }})
		}
		start(t, m)
		advance(3 * time.Second) // first runs are 0.2 ms apart
		wantReady(t, m, true, "each has run once")
		synctest.Wait()
		if got := goroutines(); got != 0 {
			t.Errorf("%d goroutines", got)
		}
	})
}

func TestFirstRunsAreThrottledAndLaterOnesKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, interval = 1000, 100 * time.Millisecond
		m := health.New(health.Config{Interval: interval, Timeout: interval})
		checks := make([]script, n)
		for i := range checks {
			register(t, m, health.Check{Name: fmt.Sprintf("check-%04d", i), Probe: checks[i].probe})
		}
		begin := time.Now()
		start(t, m)
		const length = time.Second
		advance(length)
		// Runs in every window of 5 ms; the even share of one interval is 50.
		var windows [length / (5 * time.Millisecond)]int
		for i := range checks {
			for _, at := range checks[i].since(begin) {
				if at < length {
					windows[at/(5*time.Millisecond)]++
				}
			}
		}
		for i, got := range windows {
			if got > n/10 {
				t.Errorf("%d runs in the 5 ms from %v", got, time.Duration(i)*5*time.Millisecond)
			}
		}
	})
}

func TestRunsKeepTheirIntervalOnAverageAndJitterMovesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, Interval: 10 * time.Second, Jitter: 0.2})
		begin := time.Now()
		start(t, m)
		advance(1000 * time.Second)
		at := db.since(begin)[1:]
		if n := len(at); n < 99 || n > 101 {
			t.Errorf("%d runs in 100 intervals", n)
		}
		seen := map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			gap := at[i] - at[i-1]
			seen[gap] = true
			if gap < 8*time.Second || gap > 12*time.Second {
				t.Errorf("a gap of %v with 10 s and 20 %% jitter", gap)
			}
		}
		if len(seen) < 50 {
			t.Errorf("only %d different gaps", len(seen))
		}
	})
}

func TestProbeContextEndsAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		left := make(chan time.Duration, 1)
		register(t, m, health.Check{Name: "db", Timeout: 7 * time.Second, Probe: func(ctx context.Context) error {
			d, _ := ctx.Deadline()
			left <- time.Until(d)
			return nil
		}, Interval: time.Hour})
		start(t, m)
		if got := <-left; got != 7*time.Second {
			t.Errorf("%v left at the start of a run, the timeout is 7 s", got)
		}
	})
}

// A probe that returns nil after its timeout has failed all the same.
func TestLateSuccessIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		register(t, m, health.Check{Name: "slow", Timeout: time.Second, Probe: func(context.Context) error {
			time.Sleep(1500 * time.Millisecond)
			return nil
		}})
		start(t, m)
		advance(time.Minute)
		wantReady(t, m, false, "always late")
		if c, _ := m.Report().Check("slow"); c.Fault.Kind != health.KindTimeout {
			t.Errorf("%+v", c)
		}
	})
}

// A check that is removed while it waits for a place never runs.
func TestRemovedWhileItWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{MaxConcurrent: 1})
		release := make(chan struct{})
		register(t, m, health.Check{Name: "a", Probe: hangUntil(release)})
		start(t, m)
		settle()
		var waits [3]script
		var regs [3]*health.Registration
		for i := range waits {
			regs[i] = register(t, m, health.Check{Name: fmt.Sprintf("b%d", i), Probe: waits[i].probe})
		}
		settle()
		if err := regs[1].Remove(t.Context()); err != nil {
			t.Error(err)
		}
		close(release)
		advance(time.Second)
		if waits[0].runs() == 0 || waits[1].runs() != 0 || waits[2].runs() == 0 {
			t.Errorf("runs: %d, %d, %d", waits[0].runs(), waits[1].runs(), waits[2].runs())
		}
	})
}

// A reservation that comes after the timeout is a timeout.
func TestLateReservationIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		register(t, m, health.Check{Name: "db", Timeout: time.Second, Probe: func(ctx context.Context) error {
			<-ctx.Done()
			return health.Degraded(fmt.Errorf("replica is lagging: %w", ctx.Err()))
		}})
		start(t, m)
		advance(time.Minute)
		wantReady(t, m, false, "always late")
	})
}

func TestDegradedProbeWarnsAndStaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		db.say(fmt.Errorf("wrapped: %w", health.Degraded(errDown)))
		advance(2 * time.Second)
		wantReady(t, m, true, "degraded")
		c, _ := m.Report().Check("db")
		if c.Status != health.StatusWarn || c.Err == nil || c.Err.Error() != "wrapped: down on purpose" {
			t.Errorf("%+v", c)
		}
		if g, _ := m.Report().Group(health.GroupReady); g.Status != health.StatusWarn || !strings.Contains(g.Reason, "db: wrapped") {
			t.Errorf("%+v", g)
		}
		db.say(nil)
		advance(2 * time.Second)
		if c, _ := m.Report().Check("db"); c.Status != health.StatusPass || c.Err != nil {
			t.Errorf("%+v", c)
		}
	})
	if health.Degraded(nil) != nil {
		t.Error("Degraded(nil) is an error")
	}
}
