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

// CallContext returns the context that a component is called with, and what ends it when the call is over.
func CallContext(parent context.Context, deadline time.Time) (ctx context.Context, end func()) {
	c := &callContext{parent: parent, labels: context.WithoutCancel(parent), deadline: deadline}
	return c, func() { c.end(!time.Now().Before(deadline)) }
}

// Site names the place in a stack that a sentence is about.
func Site(stack string) string { return site(stack) }
