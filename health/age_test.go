package health_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// INV-5.
func TestVerdictExpiresWhenTheSchedulerIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: 10 * time.Second, Timeout: time.Second, Jitter: poolkeeper.NoJitter})
		ok := func(context.Context) error { return nil }
		register(t, m, health.Check{Name: "db", Probe: ok, MaxAge: 20 * time.Second})
		register(t, m, health.Check{Name: "extra", Probe: ok, MaxAge: 15 * time.Second, Impact: health.ImpactDegrading})
		start(t, m)
		settle()
		health.KillScheduler(m)
		wantReady(t, m, true, "at once")
		advance(19 * time.Second)
		wantReady(t, m, true, "before MaxAge")
		if g, _ := m.Report().Group(health.GroupReady); g.Status != health.StatusWarn {
			t.Errorf("a degrading check is past its age, the group says %v", g.Status)
		}
		advance(1100 * time.Millisecond)
		wantReady(t, m, false, "past MaxAge")
		c, _ := m.Report().Check("db")
		if c.Status != health.StatusFail || c.Fault.Kind != health.KindStale {
			t.Errorf("%+v", c)
		}
		if w := get(health.Handler(m), "/readyz/db"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("its own path answers %d", w.Code)
		}
		// The scheduler's heart is silent too, and only that says that the process should be
		// restarted.
		if w := get(health.Handler(m), "/livez"); w.Code != http.StatusOK {
			t.Errorf("/livez after 21 s: %d", w.Code)
		}
		advance(15 * time.Second)
		if w := get(health.Handler(m), "/livez"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("/livez after 36 s: %d", w.Code)
		}
	})
}

// INV-4 and INV-5 in real time, where a scheduler that is stuck holds the monitor's lock: pages are
// answered, and age.
func TestPagesAreServedAndAgeWhileTheLockIsHeld(t *testing.T) {
	m := health.New(health.Config{Interval: 50 * time.Millisecond, Timeout: 50 * time.Millisecond, RetryInterval: 50 * time.Millisecond})
	register(t, m, health.Check{Name: "db", Probe: func(context.Context) error { return nil }, MaxAge: 300 * time.Millisecond})
	start(t, m)
	h := health.Handler(m, health.WithDetails(everybody))
	eventually(t, "ready", func() bool { return get(h, "/readyz").Code == http.StatusOK })
	release := health.Seize(m)
	defer release()
	eventually(t, "not ready", func() bool { return get(h, "/readyz").Code == http.StatusServiceUnavailable })
	for _, path := range []string{"/livez", "/startupz", "/livez?verbose", "/readyz?exclude=db"} {
		if w := get(h, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get(h, "/readyz/db", "Accept", "application/json"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("/readyz/db: %d", w.Code)
	}
}

// INV-5: a group that fails anyway does not keep its other verdicts young.
func TestVerdictsExpireInAFailingGroupToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second})
		register(t, m, health.Check{Name: "bad", Probe: func(context.Context) error { return errDown }})
		register(t, m, health.Check{Name: "good", Probe: func(context.Context) error { return nil }, MaxAge: 5 * time.Second})
		start(t, m)
		settle()
		h := health.Handler(m, health.WithDetails(everybody))
		if w := get(h, "/readyz/good"); w.Code != http.StatusOK {
			t.Errorf("/readyz/good: %d", w.Code)
		}
		health.KillScheduler(m)
		advance(6 * time.Second)
		if w := get(h, "/readyz/good"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("/readyz/good: %d", w.Code)
		}
		if body := get(h, "/readyz").Body.String(); !strings.Contains(body, "[-] good fail since ") {
			t.Errorf("%s", body)
		}
	})
}

// INV-5: after Stop nothing is run any more, and what was known grows old.
func TestVerdictsExpireAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		register(t, m, health.Check{Name: "good", Probe: func(context.Context) error { return nil }})
		start(t, m)
		settle()
		stop(t, m)
		h := health.Handler(m)
		if w := get(h, "/readyz/good"); w.Code != http.StatusOK {
			t.Errorf("at once: %d", w.Code)
		}
		advance(time.Hour)
		if w := get(h, "/readyz/good"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("an hour later: %d", w.Code)
		}
	})
}

// A check that could not run in time, because every place was taken, is stale; as soon as it has
// run it is not.
func TestStaleVerdictRecoversWithTheNextResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{MaxConcurrent: 1, Interval: time.Second, Timeout: 10 * time.Second})
		var slow, db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, Timeout: 10 * time.Millisecond, MaxAge: 2 * time.Second})
		register(t, m, health.Check{Name: "slow", Probe: slow.probe, Impact: health.ImpactDegrading, Interval: rarely})
		start(t, m)
		settle()
		wantReady(t, m, true, "both work")
		register(t, m, health.Check{Name: "block", Impact: health.ImpactDegrading, Interval: rarely, Probe: func(context.Context) error {
			time.Sleep(8 * time.Second)
			return nil
		}})
		advance(7 * time.Second)
		wantReady(t, m, false, "no result for longer than MaxAge")
		advance(1100 * time.Millisecond)
		wantReady(t, m, true, "a new result")
		if c, _ := m.Report().Check("db"); time.Since(c.Since) > 2*time.Second {
			t.Errorf("pass since %v, but it was stale in between", c.Since)
		}
	})
}

// The page says since when, not for how long: it stays the same while nothing changes, whatever
// runs meanwhile.
func TestPageIsTheSameWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := outage(t)
		h := health.Handler(m, health.WithDetails(everybody))
		advance(10 * time.Second)
		for _, path := range []string{"/readyz?verbose", "/livez?verbose", "/startupz?verbose"} {
			first := get(h, path).Body.String()
			time.Sleep(10 * time.Minute)
			if later := get(h, path).Body.String(); later != first {
				t.Errorf("%s: first\n%s\nten minutes later\n%s", path, first, later)
			}
		}
	})
}
