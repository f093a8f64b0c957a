package lifecycle_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
)

// Short names for what the tests of this package script most.
type (
	fake   = lifecycletest.Fake
	script = lifecycletest.Script
)

const (
	drains = lifecycletest.Drains
	aborts = lifecycletest.Aborts
)

// And for what they share with others.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
	advance    = testkit.Advance
)

// hangs ignores its context until the fake is released or aborted.
func hangs() script { return script{Hang: true, Stubborn: true} }

// errFake is what a fake fails with.
var errFake = lifecycletest.ErrFake

// recorder collects the events of a registry.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
}

func record(reg *lifecycle.Registry) *recorder {
	r := &recorder{}
	reg.Subscribe(func(e event.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
	return r
}

func (r *recorder) all() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// eventOf returns the first event of a type about a component.
func eventOf[E event.Event](t *testing.T, r *recorder, name string) E {
	t.Helper()
	for _, e := range r.all() {
		if typed, ok := e.(E); ok && e.Details().Name == name {
			return typed
		}
	}
	var none E
	t.Fatalf("no %T about %q", none, name)
	return none
}

// componentError returns the error of one component in err.
func componentError(t *testing.T, err error, name string) *lifecycle.ComponentError {
	t.Helper()
	var found *lifecycle.ComponentError
	var walk func(error)
	walk = func(err error) {
		if ce, ok := err.(*lifecycle.ComponentError); ok && ce.Name == name && found == nil { //nolint:errorlint // a walk
			found = ce
		}
		switch u := err.(type) { //nolint:errorlint // a walk
		case interface{ Unwrap() error }:
			if inner := u.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range u.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	if found == nil {
		t.Fatalf("no ComponentError of %q in: %v", name, err)
	}
	return found
}

func mustStart(t *testing.T, reg *lifecycle.Registry) {
	t.Helper()
	if err := reg.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
}

func stateOf(t *testing.T, reg *lifecycle.Registry, name string) lifecycle.State {
	t.Helper()
	s := reg.Status()
	c, ok := s.Component(name)
	if !ok {
		t.Fatalf("no component %q", name)
	}
	return c.State
}

func wantErr(t *testing.T, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error is not %q: %v", target, err)
		}
	}
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("want %q in:\n%s", p, text)
		}
	}
}

// after runs f on a goroutine of its own after d, and returns what waits for it.
func after(d time.Duration, f func()) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(d)
		f()
	})
	return wg.Wait
}
