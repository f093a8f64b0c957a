package health_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// line writes a transition shortly.
func line(c health.Transition) string {
	return fmt.Sprintf("%s%s %v>%v", c.Check, c.Group, c.From, c.To)
}

// drain takes what is there now.
func drain(ch <-chan health.Transition) []string {
	var lines []string
	for {
		synctest.Wait()
		select {
		case c, ok := <-ch:
			if !ok {
				return append(lines, "closed")
			}
			lines = append(lines, line(c))
		default:
			return lines
		}
	}
}

func want(t *testing.T, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("told %s\nwant %s", s, want)
	}
}

func TestWatchTellsChangesOfChecksAndGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe, FailureThreshold: 1})
		ctx, cancel := context.WithCancel(t.Context())
		ch := m.Watch(ctx)
		start(t, m)
		advance(time.Second)
		want(t, drain(ch), "startup fail>pass, db unknown>pass, ready fail>pass")
		advance(time.Minute)
		want(t, drain(ch), "")
		db.say(refusedError{})
		advance(3 * time.Second)
		c := <-ch
		if line(c) != "db pass>fail" || c.Fault.Kind != health.KindRefused || c.Fault.Advice == "" || c.Err == nil ||
			strings.Contains(c.Reason, "hunter2") || strings.Contains(c.Err.Error(), "hunter2") {
			t.Errorf("%+v", c)
		}
		if _, ok := errors.AsType[refusedError](c.Err); !ok {
			t.Errorf("the probe's own error is lost: %v", c.Err)
		}
		want(t, drain(ch), "ready pass>fail")
		m.SetDraining()
		want(t, drain(ch), "")
		cancel()
		want(t, drain(ch), "closed")
	})
}

// A reader that takes nothing does not block the monitor. Later it finds one change per check or
// group, and none where things ended as they began.
func TestSlowReaderGetsMergedChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Second, FailureThreshold: 1})
		var up, down, flips script
		register(t, m, health.Check{Name: "down", Probe: down.probe})
		register(t, m, health.Check{Name: "flips", Probe: flips.probe})
		register(t, m, health.Check{Name: "up", Probe: up.probe})
		start(t, m)
		settle()
		ch := m.Watch(t.Context())
		busy := m.Hold("keeps the channel's goroutine busy with a first change")
		for i := range 10 {
			if i%2 == 0 {
				flips.say(errDown)
			} else {
				flips.say(nil)
			}
			advance(5 * time.Second)
		}
		down.say(errDown)
		advance(5 * time.Second)
		wantReady(t, m, false, "nobody waits for the reader")
		want(t, drain(ch), "ready pass>fail, down pass>fail")
		busy()
	})
}

func TestWatchChannelIsClosedByStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		read, unread := m.Watch(t.Context()), m.Watch(t.Context())
		m.SetDraining()
		want(t, drain(read), "ready pass>fail")
		stop(t, m) // although unread still has a change to take
		want(t, drain(read), "closed")
		want(t, drain(unread), "closed")
		want(t, drain(m.Watch(t.Context())), "closed")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		want(t, drain(health.New(health.Config{}).Watch(gone)), "closed")
	})
}

// OnTransition is called without a lock, one call at a time and in order; it may call anything but
// Stop.
func TestOnTransitionMayCallBackAndMayBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *health.Monitor
		var told []string
		block := make(chan struct{})
		m = health.New(health.Config{Interval: time.Second, FailureThreshold: 1, OnTransition: func(c health.Transition) {
			told = append(told, line(c))
			m.Report()
			if len(told) == 1 { // each of these is a change itself
				m.Hold("from the listener")()
				r, err := m.Register(health.Check{Name: "from the listener", Probe: untilDone})
				if err == nil {
					err = r.Remove(context.WithoutCancel(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			}
			if c.To == health.StatusFail && c.Check == "db" {
				<-block
			}
		}})
		var db, other script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		register(t, m, health.Check{Name: "other", Probe: other.probe})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		db.say(errDown)
		advance(10 * time.Second)
		n := other.runs()
		advance(10 * time.Second)
		if got := other.runs() - n; got < 9 {
			t.Errorf("%d runs in 10 s beside a listener that blocks", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "listener") {
			t.Errorf("Stop while a listener blocks: %v", err)
		}
		close(block)
		stop(t, m) // waits for it
		if s := strings.Join(told, ", "); !strings.HasPrefix(s, "startup fail>pass, ") || !strings.Contains(s, "db pass>fail, ") {
			t.Errorf("told %s", s)
		}
	})
}

// controller-runtime#1188: a log line names the check, and why.
func TestTransitionLogsWithNamesAndWithoutSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		log := slog.New(slog.NewTextHandler(&buf, nil))
		m := health.New(health.Config{OnTransition: func(c health.Transition) { log.Info("health", "change", c) }})
		refused := func(context.Context) error { return refusedError{} }
		register(t, m, health.Check{Name: "postgres", Probe: refused})
		register(t, m, health.Check{Name: "sales", Probe: refused, DependsOn: []string{"postgres"}})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle()
		stop(t, m)
		for _, want := range []string{
			"change.check=postgres change.from=unknown change.to=fail change.kind=refused change.reason=",
			"change.advice=\"is the server up?\"", "change.caused_by=[postgres]", "change.group=startup change.from=fail change.to=pass",
		} {
			if !strings.Contains(buf.String(), want) {
				t.Errorf("no %q in\n%s", want, buf.String())
			}
		}
		if strings.Contains(buf.String(), "hunter2") {
			t.Errorf("a secret in\n%s", buf.String())
		}
	})
}
