package lifecycle_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestEventsTellTheStoryInOrderWithDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var story []string
		cancel := reg.Subscribe(func(e event.Event) {
			i := e.Details()
			line := fmt.Sprintf("%T %s %s %v", e, i.Name, i.Phase, i.Elapsed)
			story = append(story, strings.Join(strings.Fields(strings.TrimPrefix(line, "*event.")), " "))
		})
		reg.Add("db", &fake{OnStart: script{Delay: 2 * time.Second}, OnStop: script{Delay: time.Second}})
		reg.Add("api", (&fake{OnDrain: script{Delay: 3 * time.Second}}).As(drains), lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"Starting db start 0s", "Started db start 2s", "Starting api start 0s", "Started api start 0s", "AllUp 2s",
			"ShuttingDown 0s",
			"Draining api drain 0s", "Drained api drain 3s", "Stopping api stop 0s", "Stopped api stop 3s",
			"Stopping db stop 0s", "Stopped db stop 1s", "AllDown 4s",
		}
		if !slices.Equal(story, want) {
			t.Errorf("story:\n%s\nwant:\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
		}
		cancel()
		cancel()
	})
}

func TestTheLogSaysWhatMattersAtItsLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		cfg := lifecycle.Config{Logger: slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == "stack" {
					return slog.Attr{}
				}
				return a
			},
		}))}
		reg := lifecycle.New(cfg)
		hung := &fake{OnStop: hangs()}
		reg.Add("db", &fake{})
		reg.Add("api", hung, lifecycle.WithDependencies("db"))
		mustStart(t, reg)
		_ = reg.Shutdown(within(t, 10*time.Second))
		want := `level=INFO msg="component is up" component=db phase=start
level=INFO msg="component is up" component=api phase=start
level=INFO msg="all components are up" critical_path="[db api]"
level=INFO msg="shutting down" budget=10s drain_delay=0s
level=ERROR msg="component hangs and was given up" component=api phase=stop elapsed=5s error="lifecycle: stop of \"api\" failed after 5s: did not stop in time, at lifecycletest.(*Fake).wait (fake.go:`
		if got := buf.String(); !strings.HasPrefix(got, want) {
			t.Errorf("log:\n%s\nwant:\n%s", got, want)
		}
		wantText(t, buf.String(), `level=INFO msg="component has stopped" component=db phase=stop outcome=ok`,
			`level=ERROR msg="shutdown ended with errors" elapsed=5s critical_path="[api db]" report.components=2 report.ok=1 report.api="abandoned after 5s"`)
		hung.Release()
	})
}

func TestASubscriberThatHangsDelaysNobody(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		reg.Subscribe(func(event.Event) { <-release })
		f := &fake{}
		reg.Add("a", f)
		began := time.Now()
		mustStart(t, reg)
		if err := reg.Shutdown(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v, want at most a second each for start and shutdown", took)
		}
		close(release)
	})
}

func TestASubscriberThatPanicsOrExitsIsToldOnAndOthersToo(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic": func() { panic("ouch") }, "exit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
			var mu sync.Mutex
			calls := 0
			reg.Subscribe(func(event.Event) {
				mu.Lock()
				calls++
				mu.Unlock()
				misbehave()
			})
			mustStart(t, reg)
			if err := reg.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if calls != 3 { // AllUp, ShuttingDown, AllDown
				t.Errorf("%d events, want 3", calls)
			}
			said := map[string]string{"panic": "panic: ouch", "exit": "it called runtime.Goexit"}
			wantText(t, buf.String(), "a subscriber to the registry's events failed", `event="shutting down"`, said[name])
		})
	}
}

func TestASubscriberMayLookAtTheRegistry(t *testing.T) {
	reg := lifecycle.New(quiet())
	var phases []string
	reg.Subscribe(func(event.Event) {
		phases = append(phases, reg.Status().Phase)
		_ = reg.Graph()
	})
	reg.Add("a", &fake{})
	mustStart(t, reg)
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(phases) < 5 {
		t.Errorf("phases %v", phases)
	}
}

func TestEveryEventHasASentenceOfItsOwn(t *testing.T) {
	events := []event.Event{
		&event.Starting{}, &event.Started{}, &event.Failed{}, &event.Draining{}, &event.Drained{},
		&event.Stopping{}, &event.Stopped{}, &event.Stopped{Outcome: event.OutcomeAborted},
		&event.Stopped{Outcome: event.OutcomeFailed}, &event.Aborting{}, &event.Abandoned{},
		&event.Holding{}, &event.Held{}, &event.Late{}, &event.Died{}, &event.Completed{},
		&event.Restarting{}, &event.Refused{}, &event.AllUp{}, &event.ShuttingDown{},
		&event.AllDown{}, &event.AllDown{Info: event.Info{Err: errDied}}, &event.SignalReceived{},
		&event.SignalReceived{Second: true},
	}
	said := map[string]bool{}
	for _, e := range events {
		s := fmt.Sprint(e)
		if s == "" || said[s] || strings.Contains(s, "{") {
			t.Errorf("%T says %q, which is empty, no sentence or was said before", e, s)
		}
		said[s] = true
	}
}

func TestStatusIsASnapshotThatDoesNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		reg.Add("db", &fake{OnStart: script{Delay: time.Second}})
		reg.Add("api", (&fake{OnDrain: script{Delay: time.Second}, OnStop: script{Delay: time.Second, Fail: 1}}).As(drains),
			lifecycle.WithDependencies("db"))
		reg.Add("probes", &fake{}, lifecycle.WithOps())
		fresh := reg.Status()
		if fresh.Phase != "new" || fresh.Start != nil || fresh.Shutdown != nil || len(fresh.Components) != 3 {
			t.Errorf("before: %+v", fresh)
		}
		mustStart(t, reg)
		up := reg.Status()
		api, _ := up.Component("api")
		if up.Phase != "up" || api.State != lifecycle.StateUp || api.Type != "lifecycletest.drainFake" ||
			!slices.Equal(api.DependsOn, []string{"db"}) || api.Ops {
			t.Errorf("up: %+v", api)
		}
		if c := up.Start.Critical; !slices.Equal(c, []string{"probes", "db", "api"}) || up.Start.Took != time.Second {
			t.Errorf("start: critical path %v, took %v", c, up.Start.Took)
		}
		api.DependsOn[0] = "changed"
		_ = reg.Shutdown(t.Context())
		down := reg.Status()
		if up.Phase != "up" || up.Shutdown != nil {
			t.Error("an old snapshot has changed")
		}
		api, _ = down.Component("api")
		if api.DependsOn[0] != "db" || api.Down.Drain != time.Second || api.Down.Took != 2*time.Second ||
			api.Down.Outcome != event.OutcomeFailed || !errors.Is(api.Down.Err, api.Err) || api.Err == nil {
			t.Errorf("down: %+v", api)
		}
		r := down.Shutdown
		names := make([]string, len(r.Steps))
		for i, s := range r.Steps {
			names[i] = s.Name
		}
		if down.Phase != "closed" || !slices.Equal(names, []string{"api", "db", "probes"}) || r.Err == nil {
			t.Errorf("phase %s, steps %v, error %v", down.Phase, names, r.Err)
		}
		if _, ok := down.Component("nobody"); ok {
			t.Error("there is a nobody")
		}
	})
}

func TestGraphIsMermaidWithStatesDurationsAndTheCriticalPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		reg.Add("db", &fake{OnStart: script{Delay: 1500 * time.Millisecond}})
		reg.Add(`the "api" <1>`, &fake{}, lifecycle.WithDependencies("db"))
		reg.Add("idle", &fake{})
		reg.Add("probes", &fake{}, lifecycle.WithOps())
		mustStart(t, reg)
		want := `flowchart TD
  c0["db<br/>up<br/>up in 1.5s"]:::up
  c1["the #34;api#34; #60;1#62;<br/>up"]:::up
  c2["idle<br/>up"]:::up
  c3(["probes<br/>up"]):::up
  c1 --> c0
  class c3,c0,c1 critical
  classDef added `
		if got := reg.Graph(); !strings.HasPrefix(got, want) {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantText(t, reg.Graph(), "stopped<br/>up in 1.5s\"]:::stopped", " critical\n")
	})
}

func TestNamesOfConstantsAreDistinct(t *testing.T) {
	for name, values := range map[string][]fmt.Stringer{
		"Outcome": {
			event.OutcomeNone, event.OutcomeOK, event.OutcomeFailed, event.OutcomeAborted,
			event.OutcomeAbandoned, event.OutcomeHeld, event.Outcome(99),
		},
		"Policy":      {lifecycle.HangPolicyAbandon, lifecycle.HangPolicyHold, lifecycle.HangPolicy(99)},
		"DeathPolicy": {lifecycle.DeathPolicyShutdown, lifecycle.DeathPolicyIgnore, lifecycle.DeathPolicyRestart, lifecycle.DeathPolicy(99)},
	} {
		seen := map[string]bool{}
		for _, v := range values {
			if s := v.String(); s == "" || seen[s] {
				t.Errorf("%s(%d) is %q", name, reflect.ValueOf(v).Uint(), s)
			}
			seen[v.String()] = true
		}
	}
}
