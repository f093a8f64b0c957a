package health_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// take returns what was written since the last call.
func (b *logBuffer) take() string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestEveryChangeOfACheckIsOneLineWithCauseAndAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		m := health.New(health.Config{Logger: log.logger(), Interval: time.Second, Jitter: poolkeeper.NoJitter})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		register(t, m, health.Check{Name: "cache", Probe: db.probe, Impact: health.ImpactDegrading, DependsOn: []string{"db"}, InitialDelay: time.Hour})
		start(t, m)
		advance(time.Minute)
		if s := log.take(); s != "" {
			t.Errorf("a check that passes from the start has lines:\n%s", s)
		}
		db.say(refusedError{})
		advance(20 * time.Second)
		s := log.take()
		want := `level=WARN msg="health: a check fails" check=db kind=down cause=refused advice="is the server up?" since=2000-01-01T00:01:00.`
		if !strings.HasPrefix(s, want) || !strings.Contains(s, "failures=3 impact=critical error=") || strings.Count(s, "\n") != 1 || strings.Contains(s, "hunter2") {
			t.Errorf("got\n%swant\n%s", s, want)
		}
		db.say(nil)
		advance(20 * time.Second)
		if s := log.take(); !strings.HasPrefix(s, `level=INFO msg="health: a check passes again" check=db kind=up down_for=2`) || strings.Count(s, "\n") != 1 {
			t.Errorf("got\n%s", s)
		}
		db.say(health.Degraded(errDown))
		advance(20 * time.Second)
		if s := log.take(); !strings.HasPrefix(s, `level=WARN msg="health: a check passes with a reservation" check=db kind=degraded cause=unknown since=`) {
			t.Errorf("got\n%s", s)
		}
		m.SetDraining()
		if s := log.take(); s != "" {
			t.Errorf("a shutdown is no change of a check:\n%s", s)
		}
	})
}

func TestACheckThatFlapsIsSummedUpAndTheLastLineIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		m := health.New(health.Config{Logger: log.logger(), Interval: time.Second, FailureThreshold: 1})
		var db script
		register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		for i := range 40 {
			if i%2 == 0 {
				db.say(errDown)
			} else {
				db.say(nil)
			}
			advance(2 * time.Second)
		}
		db.say(errDown)
		advance(10 * time.Minute)
		s := log.take()
		if n := strings.Count(s, "\n"); n > 5+3 {
			t.Errorf("%d lines for 41 changes in 80 s:\n%s", n, s)
		}
		lines := strings.Split(strings.TrimSpace(s), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, "kind=flapping status=fail changes=") || !strings.Contains(last, "error=") {
			t.Errorf("the last line of a check that is down is\n%s", last)
		}
		db.say(nil)
		advance(time.Minute)
		if s := log.take(); !strings.Contains(s, "kind=up down_for=") {
			t.Errorf("after it was at rest, a change is a line again; got\n%s", s)
		}
	})
}

// misdeeds are the ways in which user code ends otherwise than by returning.
func misdeeds() map[string]func() {
	return map[string]func(){"panic: ouch": func() { panic("ouch") }, "it called runtime.Goexit": runtime.Goexit}
}

func TestOnTransitionThatPanicsOrExitsIsLoggedAndToldOn(t *testing.T) {
	for said, misbehave := range misdeeds() {
		t.Run(said, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				var told []string
				m := health.New(health.Config{Logger: log.logger(), OnTransition: func(c health.Transition) {
					told = append(told, line(c))
					misbehave()
				}})
				register(t, m, health.Check{Name: "db", Probe: func(context.Context) error { return nil }})
				ch := m.Watch(t.Context())
				if err := m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				settle()
				want(t, drain(ch), "startup fail>pass, db unknown>pass, ready fail>pass")
				stop(t, m)
				want(t, told, "startup fail>pass, db unknown>pass, ready fail>pass, ready pass>fail")
				s := log.take()
				if strings.Count(s, `level=ERROR msg="health: a listener to changes failed" kind=panic error="`+said) != len(told) {
					t.Errorf("logged\n%s", s)
				}
				if strings.HasPrefix(said, "panic") && !strings.Contains(s, "log_test.go") {
					t.Errorf("no stack in\n%s", s)
				}
			})
		})
	}
}

// hostileHandler is a slog handler that does something else than it should.
type hostileHandler struct{ enabled, handle func() }

func (h hostileHandler) Enabled(context.Context, slog.Level) bool {
	h.enabled()
	return true
}

func (h hostileHandler) Handle(context.Context, slog.Record) error {
	h.handle()
	return nil
}
func (h hostileHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h hostileHandler) WithGroup(string) slog.Handler      { return h }

func TestALoggerThatPanicsExitsOrHangsKeepsNoVerdictBack(t *testing.T) {
	all := misdeeds()
	all["hangs"] = nil
	for said, misbehave := range all {
		for where := range 2 {
			t.Run(said, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					release := make(chan struct{})
					if said == "hangs" {
						misbehave = func() { <-release }
					}
					h := hostileHandler{func() {}, func() {}}
					if where == 0 {
						h.enabled = misbehave
					} else {
						h.handle = misbehave
					}
					m := health.New(health.Config{Logger: slog.New(h), Interval: time.Second, FailureThreshold: 1})
					var db script
					register(t, m, health.Check{Name: "db", Probe: db.probe})
					start(t, m)
					ch := m.Watch(t.Context())
					for range 3 {
						db.say(errDown)
						advance(5 * time.Second)
						wantReady(t, m, false, "down")
						db.say(nil)
						advance(35 * time.Second)
						wantReady(t, m, true, "up again")
					}
					if len(drain(ch)) == 0 {
						t.Error("Watch was told nothing")
					}
					close(release)
				})
			})
		}
	}
}
