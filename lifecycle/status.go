package lifecycle

import (
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Status is one moment of a [Registry]. It is a value of its own: nothing in it changes after it
// was returned.
type Status struct {
	// Phase is new, starting, up, closing or closed.
	Phase string
	// Since is when Phase began.
	Since time.Time
	// Components as added.
	Components []ComponentStatus
	// Start is how Start went; nil before its end.
	Start *event.Report
	// Shutdown is how the shutdown went; nil before its end.
	Shutdown *event.Report
}

// ComponentStatus is one moment of one component.
type ComponentStatus struct {
	Name      string
	Type      string   // its Go type
	DependsOn []string // as given
	Ops       bool
	State     State      // stopped, also for one whose start failed once what it held was released: see Up
	Since     time.Time  // when State began
	Up, Down  event.Step // how it went the last time; zero before
	Restarts  int
	Err       error // the last failure; nil if there was none
}

// Component returns the status of the named component, and false if there is none.
func (s Status) Component(name string) (ComponentStatus, bool) {
	for _, c := range s.Components {
		if c.Name == name {
			return c, true
		}
	}
	return ComponentStatus{}, false
}

// Status returns what the registry and its components are doing now. It does not block.
func (r *Registry) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Phase: r.phase.String(), Since: r.since, Start: r.reportLocked(&r.start), Shutdown: r.reportLocked(&r.end),
		Components: make([]ComponentStatus, 0, len(r.nodes)),
	}
	for _, n := range r.nodes {
		if n.comp == nil {
			continue
		}
		s.Components = append(s.Components, ComponentStatus{
			Name: n.name, Type: fmt.Sprintf("%T", n.comp), Ops: n.ops,
			DependsOn: append([]string(nil), n.dependsOn...),
			State:     n.state, Since: r.wall(n.since), Up: r.stepOf(n, n.up), Down: r.stepOf(n, n.down),
			Restarts: n.restarts, Err: n.err,
		})
	}
	return s
}

// String returns the phase in lower case.
func (p phase) String() string {
	switch p {
	case phaseNew:
		return "new"
	case phaseStarting:
		return "starting"
	case phaseUp:
		return "up"
	case phaseClosing:
		return "closing"
	case phaseClosed:
		return "closed"
	}
	return "unknown"
}
