package lifecycle

import (
	"fmt"
	"slices"
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
		Phase: r.phase.String(), Since: r.since, Start: r.started.reportLocked(), Shutdown: r.ended.reportLocked(),
		Components: make([]ComponentStatus, 0, len(r.nodes)),
	}
	for _, n := range r.nodes {
		if n.comp == nil {
			continue
		}
		s.Components = append(s.Components, ComponentStatus{
			Name: n.name, Type: fmt.Sprintf("%T", n.comp), Ops: n.ops,
			DependsOn: append([]string(nil), n.dependsOn...),
			State:     n.state, Since: n.since, Up: n.up.event(n), Down: n.down.event(n),
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

// result is what a Report is made of when a caller asks for one.
type result struct {
	walk        *walk // nil while it is not over
	took, delay time.Duration
	err         error
	report      *event.Report
}

// reportLocked returns how it went, or nil if it is not over.
func (s *result) reportLocked() *event.Report {
	if s.walk != nil && s.report == nil {
		s.report = s.walk.reportLocked()
		s.report.Began = s.walk.began.Add(-s.delay)
		s.report.Took, s.report.Delay, s.report.Err = s.took, s.delay, s.err
	}
	return s.report
}

// reportLocked returns the part of a Report that is about components.
func (w *walk) reportLocked() *event.Report {
	report := &event.Report{Steps: make([]event.Step, len(w.done)), Critical: w.criticalPath()}
	for i, n := range w.done {
		report.Steps[i] = w.stepOf(n).event(n)
	}
	return report
}

// stepOf is n's part in w.
func (w *walk) stepOf(n *node) step {
	if w.up {
		return n.up
	}
	return n.down
}

// step is an event.Step as a node keeps it.
type step struct {
	began       time.Time
	took, drain time.Duration
	err         error
	last        *node // the neighbour that was done last and so let it begin
	outcome     event.Outcome
}

func (s step) event(n *node) event.Step {
	if s.began.IsZero() && s.outcome == event.OutcomeNone {
		return event.Step{}
	}
	return event.Step{Name: n.name, Began: s.began, Took: s.took, Drain: s.drain, Outcome: s.outcome, Err: s.err}
}

// criticalPath follows the node that was done last back to the first: each began when the one
// before it was done. What was held open never began, so it has taken no time.
func (w *walk) criticalPath() []string {
	last := len(w.done) - 1
	for last >= 0 && !w.up && w.done[last].down.outcome == event.OutcomeHeld {
		last--
	}
	if last < 0 {
		return nil
	}
	var path []string
	for n := w.done[last]; n != nil; n = w.stepOf(n).last {
		if n.comp != nil {
			path = append(path, n.name)
		}
	}
	slices.Reverse(path)
	return path
}
