package lifecycle

import (
	"context"
	"time"
)

// CanBecome lets the tests ask the table of states.
func (s State) CanBecome(next State) bool { return s.canBecome(next) }

// States is the number of states.
const States = stateCount

// CutShort is what a second signal does.
func (r *Registry) CutShort(cause error) { r.cutShort(cause) }

// CallContext returns the context that a component is called with, and what ends it when the call
// is over.
func CallContext(parent context.Context, deadline time.Time) (ctx context.Context, end func()) {
	c := &call{Context: parent, n: &node{labels: New(Config{}).root}}
	return context.WithDeadline(c, deadline)
}

// Site names the place in a stack that a sentence is about.
func Site(stack string) string { return site(stack) }

// The faults of a graph, which a caller only prints.
type (
	CycleError             = cycleError
	DuplicateError         = duplicateError
	MissingDependencyError = missingDependencyError
)

// And those of Add, and of a component that ends its goroutine.
var (
	ErrFrozen       = errFrozen
	ErrName         = errName
	ErrNilComponent = errNilComponent
	ErrGoexit       = errGoexit
)

// LabelComponent is the pprof label with a component's name.
const LabelComponent = labelComponent

// LookAtFiles makes the next handshake look at the files, as it does when the period is over.
func (s *Server) LookAtFiles() { s.files.looked.Store(0) }
