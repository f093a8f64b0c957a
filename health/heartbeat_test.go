package health_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// INV-11.
func TestLivenessIsHeartbeatsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var db script
		db.say(errDown)
		release := make(chan struct{})
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		register(t, m, health.Check{Name: "hung", Probe: hangUntil(release)})
		loop, err := m.Heartbeat("loop", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		h := health.Handler(m, health.WithDetails(everybody))
		live := func(want int, when string) {
			t.Helper()
			if w := get(h, "/livez"); w.Code != want {
				t.Errorf("%s: /livez answers %d, want %d", when, w.Code, want)
			}
			if groupOK(m, health.GroupLive) != (want == 200) {
				t.Errorf("%s: the report disagrees", when)
			}
		}
		advance(time.Minute)
		live(200, "before Start nobody has to beat")
		start(t, m)
		advance(9 * time.Second)
		live(200, "a beat counts from Start")
		for range 20 {
			loop.Beat()
			advance(9 * time.Second)
			live(200, "beating, with every check down")
		}
		wantReady(t, m, false, "every check is down")
		advance(1100 * time.Millisecond)
		live(503, "silent for longer than 10 s")
		if body := get(h, "/livez").Body.String(); !strings.Contains(body, "live fail since ") ||
			!strings.Contains(body, "loop: last beat ") || !strings.Contains(body, "[-] loop fail since ") {
			t.Errorf("page: %q", body)
		}
		if w := get(h, "/livez/loop"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("/livez/loop: %d", w.Code)
		}
		if w := get(h, "/livez?exclude=loop"); w.Code != http.StatusOK {
			t.Errorf("/livez?exclude=loop: %d", w.Code)
		}
		loop.Beat()
		live(200, "it beats again")
		advance(11 * time.Second)
		live(503, "silent again")
		m.SetDraining()
		live(200, "draining: loops end on purpose")
		close(release)
	})
}

func TestListenersAreToldOfSilentAndOfReturningHearts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		loop, err := m.Heartbeat("loop", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		start(t, m)
		changes := m.Watch(t.Context())
		begin := time.Now()
		c := <-changes
		if c.Group != health.GroupLive || c.To != health.StatusFail || !strings.Contains(c.Reason, "loop: last beat") ||
			!roughly(time.Since(begin), 10*time.Second) {
			t.Errorf("after %v: %+v", time.Since(begin), c)
		}
		loop.Beat()
		begin = time.Now()
		if c := <-changes; c.Group != health.GroupLive || c.To != health.StatusPass || time.Since(begin) > 6*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), c)
		}
	})
}

func TestHeartbeatThatStoppedIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		loop, err := m.Heartbeat("loop", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Report(); len(r.Heartbeats) != 2 || r.Heartbeats[1].Name != "loop" || r.Heartbeats[1].MaxAge != time.Second {
			t.Errorf("%+v", r.Heartbeats)
		}
		loop.Stop()
		loop.Stop()
		advance(time.Minute)
		if !groupOK(m, health.GroupLive) {
			t.Error("a heartbeat that was stopped is missed")
		}
		if _, err := m.Heartbeat("loop", time.Second); err != nil {
			t.Errorf("the name is not free: %v", err)
		}
		loop.Stop() // the old one; the new one stays
		if r := m.Report(); len(r.Heartbeats) != 2 {
			t.Errorf("%+v", r.Heartbeats)
		}
	})
}

func TestHeartbeatRefusesWhatCannotWork(t *testing.T) {
	m := health.New(health.Config{})
	for _, c := range []struct {
		name   string
		maxAge time.Duration
	}{{"", time.Second}, {"a\nb", time.Second}, {"loop", 0}, {"loop", -1}} {
		if _, err := m.Heartbeat(c.name, c.maxAge); err == nil {
			t.Errorf("%q every %v is no fault", c.name, c.maxAge)
		}
	}
	if _, err := m.Heartbeat("health scheduler", time.Second); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("the scheduler's own name: %v", err)
	}
}
