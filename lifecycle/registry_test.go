package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal records what components do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *journal) component(name string) lifecycle.Hooks {
	return lifecycle.Hooks{
		OnStart: func(context.Context) error { j.add("+" + name); return nil },
		OnStop:  func(context.Context) error { j.add("-" + name); return nil },
	}
}

func quiet() lifecycle.Config {
	return lifecycle.Config{Logger: slog.New(slog.DiscardHandler)}
}

func TestComponentsStartInOrderAndStopInReverse(t *testing.T) { // INV-1
	var j journal
	reg := lifecycle.New(quiet())
	reg.Add("api", j.component("api"), lifecycle.WithDependencies("db", "cache"))
	reg.Add("probes", j.component("probes"), lifecycle.WithOps())
	reg.Add("cache", j.component("cache"), lifecycle.WithDependencies("db"))
	reg.Add("db", j.component("db"))
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !reg.Health().Report().Ready() {
		t.Error("not ready after Start")
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"+probes", "+db", "+cache", "+api", "-api", "-cache", "-db", "-probes"}
	if got := j.all(); !slices.Equal(got, want) {
		t.Fatalf("order %v, want %v", got, want)
	}
	if got := reg.Status().Shutdown.Critical; !slices.Equal(got, []string{"api", "cache", "db", "probes"}) {
		t.Errorf("critical path %v", got)
	}
}

func TestFailedStartRollsBackAndWrapsTheCause(t *testing.T) { // INV-13
	var j journal
	boom := errors.New("boom")
	reg := lifecycle.New(quiet())
	reg.Add("db", j.component("db"))
	reg.Add("cache", j.component("cache"), lifecycle.WithDependencies("db"))
	reg.Add("api", lifecycle.Hooks{OnStart: func(context.Context) error { return boom }}, lifecycle.WithDependencies("cache"))
	err := reg.Start(t.Context())
	ce, ok := errors.AsType[*lifecycle.ComponentError](err)
	if !errors.Is(err, boom) || !ok || ce.Name != "api" || ce.Phase != event.PhaseStart {
		t.Fatalf("Start = %v, want a ComponentError of api's start around the cause", err)
	}
	if got := j.all(); !slices.Equal(got, []string{"+db", "+cache", "-cache", "-db"}) {
		t.Fatalf("order %v", got)
	}
}

// 900,000 edges, by name: work grows with nodes plus edges, so this is ordinary. What grows faster
// would not end.
func TestALargeAndDenseGraphIsOrdinary(t *testing.T) { // INV-1
	const layers, width, deps = 100, 100, 91
	reg := lifecycle.New(quiet())
	var up [layers * width]atomic.Bool
	var early atomic.Int32
	names := make([]string, 0, len(up))
	for id := range up {
		names = append(names, strconv.Itoa(id))
		first := (id/width - 1) * width
		var needs []string
		if first >= 0 {
			needs = names[first : first+deps]
		}
		reg.Add(names[id], lifecycle.Hooks{OnStart: func(context.Context) error {
			for k := range needs {
				if !up[first+k].Load() {
					early.Add(1)
				}
			}
			up[id].Store(true)
			return nil
		}}, lifecycle.WithDependencies(needs...))
	}
	mustStart(t, reg)
	if early.Load() > 0 {
		t.Errorf("%d times a component has started before what it depends on", early.Load())
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
