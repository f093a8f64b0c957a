package lifecycletest

import (
	"slices"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Order fails the test unless each of the named components depends on the one before it, directly
// or not: only then are they started in this order and stopped in reverse whatever the machine
// does. It may be called before and after Start.
func Order(tb testing.TB, reg *lifecycle.Registry, names ...string) {
	tb.Helper()
	status := reg.Status()
	deps := make(map[string][]string)
	ops := make(map[string]bool)
	for _, c := range status.Components {
		deps[c.Name] = c.DependsOn
		ops[c.Name] = c.Ops
	}
	for i, name := range names {
		if _, ok := status.Component(name); !ok {
			tb.Errorf("lifecycletest: order: there is no component %q", name)
			return
		}
		if i == 0 {
			continue
		}
		before := names[i-1]
		if !reaches(deps, name, before) && (!ops[before] || ops[name]) {
			tb.Errorf("lifecycletest: order: %q does not depend on %q, so it may start before it and outlive it", name, before)
		}
	}
}

// reaches reports whether from depends on to.
func reaches(deps map[string][]string, from, to string) bool {
	seen := map[string]bool{from: true}
	todo := []string{from}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if slices.Contains(deps[at], to) {
			return true
		}
		for _, d := range deps[at] {
			if !seen[d] {
				seen[d] = true
				todo = append(todo, d)
			}
		}
	}
	return false
}

// inspector watches the events of a registry for an order that cannot be right.
type inspector struct {
	t   testing.TB
	reg *lifecycle.Registry

	mu         sync.Mutex // guards the following
	up         map[string]bool
	deps       map[string][]string
	dependents map[string][]string
}

func newInspector(tb testing.TB, reg *lifecycle.Registry) *inspector {
	tb.Helper()
	return &inspector{t: tb, reg: reg, up: make(map[string]bool)}
}

// see checks one event. Events come in the order of what they tell.
func (i *inspector) see(e event.Event) {
	name := e.Details().Name
	i.mu.Lock()
	defer i.mu.Unlock()
	switch e.(type) {
	case *event.Starting:
		i.learnLocked()
		for _, d := range i.deps[name] {
			if !i.up[d] {
				i.t.Errorf("lifecycletest: %q starts, and %q, on which it depends, is not up", name, d)
			}
		}
	case *event.Started:
		i.up[name] = true
	case *event.Draining, *event.Stopping:
		for _, d := range i.dependents[name] {
			if i.up[d] {
				i.t.Errorf("lifecycletest: %q stops, and %q, which depends on it, is up", name, d)
			}
		}
	case *event.Stopped, *event.Abandoned:
		delete(i.up, name)
	}
}

// learnLocked takes in the graph, which does not change once something starts.
func (i *inspector) learnLocked() {
	if i.deps != nil {
		return
	}
	i.deps, i.dependents = make(map[string][]string), make(map[string][]string)
	for _, c := range i.reg.Status().Components {
		i.deps[c.Name] = c.DependsOn
		for _, d := range c.DependsOn {
			i.dependents[d] = append(i.dependents[d], c.Name)
		}
	}
}
