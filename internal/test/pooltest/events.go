package pooltest

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Events keeps the events of a pool. Its zero value is ready, and it is safe for concurrent use.
type Events struct {
	mu  sync.Mutex // guards the following
	all []poolkeeper.Event
}

// Subscribed returns the events of p from now on.
func Subscribed(p interface {
	Subscribe(fn func(poolkeeper.Event)) (cancel func())
},
) *Events {
	e := new(Events)
	p.Subscribe(e.Add)
	return e
}

// Add keeps an event.
func (e *Events) Add(one poolkeeper.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, one)
}

// All returns every event so far.
func (e *Events) All() []poolkeeper.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// Of returns the events of a kind.
func (e *Events) Of(kind poolkeeper.EventKind) []poolkeeper.Event {
	return slices.DeleteFunc(e.All(), func(one poolkeeper.Event) bool { return one.Kind != kind })
}

// Expiries returns the warnings of expiries in words, sorted.
func (e *Events) Expiries() []string {
	var out []string
	for _, one := range e.Of(poolkeeper.EventExpiry) {
		out = append(out, one.Level.String()+" "+one.Text)
	}
	slices.Sort(out)
	return out
}

// Event is how a test expects an event to be.
type Event struct {
	Kind  poolkeeper.EventKind
	Level slog.Level
	Err   bool   // it says why
	Held  string // the kind of its holder; empty: it has none
}

// Told fails the test unless events has one event of the kind, from after began, and it is as expected.
func Told(tb testing.TB, events *Events, want Event, began time.Time) {
	tb.Helper()
	got := events.Of(want.Kind)
	if len(got) != 1 {
		tb.Fatalf("%d events of this kind; all: %v", len(got), events.All())
	}
	e := got[0]
	if e.Level != want.Level || e.Pool == "" || e.Text == "" || (e.Err != nil) != want.Err || e.Time.Before(began) {
		tb.Errorf("%+v", e)
	}
	if h := e.Holder; (h == nil) != (want.Held == "") || h != nil && (h.Kind != want.Held || h.Stack == "") {
		tb.Errorf("the holder is %+v, want a %q", h, want.Held)
	}
}
