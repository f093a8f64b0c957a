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

// State is where a component is in its life.
//
//	Added ──▶ Starting ──▶ Up ──▶ Draining ──▶ Stopping ──▶ Stopped
//	  │          │         │ ╲                    ▲           │
//	  │          ▼         │  ▶ Completed, Dead ──┤           └─▶ Starting (restart)
//	  │        Failed ─────┼──────────────────────┤
//	  └────────────────────┴──────────────────────┘
//
// Every state in which something can hang, or which may never be stopped, leads to Abandoned as
// well.
type State uint8

// stateCount is the number of states.
const stateCount = int(StateAbandoned) + 1

// The states of a component.
const (
	StateAdded     State = iota // never started
	StateStarting               // Start is running
	StateUp                     // Start has returned nil
	StateCompleted              // it ended by itself, as it should: a [Worker] returned nil
	StateDead                   // it ended by itself with an error
	StateDraining               // Drain is running
	StateStopping               // Stop, or Abort for what was never up, is running
	StateStopped                // Stop or Abort has returned
	StateFailed                 // Start returned an error
	StateAbandoned              // given up: something of it may still run, or it was never asked to stop
)

// legal[s] has the bit of every state that may follow s. It is the only place that knows; a
// transition that is not here does not happen, which is how results that come too late are told
// from those that count.
//
//nolint:gochecknoglobals // a constant table
var legal = [stateCount]uint16{
	StateAdded:     bits(StateStarting, StateStopping, StateAbandoned),
	StateStarting:  bits(StateUp, StateFailed, StateAbandoned),
	StateUp:        bits(StateCompleted, StateDead, StateDraining, StateStopping, StateAbandoned),
	StateCompleted: bits(StateDraining, StateStopping, StateAbandoned),
	StateDead:      bits(StateDraining, StateStopping, StateAbandoned),
	StateDraining:  bits(StateStopping, StateAbandoned),
	StateStopping:  bits(StateStopped, StateAbandoned),
	StateStopped:   bits(StateStarting),
	StateFailed:    bits(StateStopping, StateAbandoned),
	StateAbandoned: bits(StateStopped), // it came back late, and was stopped
}

func bits(states ...State) uint16 {
	var b uint16
	for _, s := range states {
		b |= 1 << s
	}
	return b
}

// canBecome reports whether next may follow s.
func (s State) canBecome(next State) bool {
	return int(s) < stateCount && int(next) < stateCount && legal[s]&(1<<next) != 0
}

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case StateAdded:
		return "added"
	case StateStarting:
		return "starting"
	case StateUp:
		return "up"
	case StateCompleted:
		return "completed"
	case StateDead:
		return "dead"
	case StateDraining:
		return "draining"
	case StateStopping:
		return "stopping"
	case StateStopped:
		return "stopped"
	case StateFailed:
		return "failed"
	case StateAbandoned:
		return "abandoned"
	}
	return "unknown"
}
