// Package turn is a lock for what takes long: one at a time, and whoever waits has a context.
package turn

import "context"

// Turn is held by one at a time. It holds a token then, so that it can stand in a select too.
type Turn chan struct{}

// New returns a Turn that nobody has.
func New() Turn { return make(Turn, 1) }

// Take waits for the turn, at most until ctx ends, and returns the cause of that end. A turn that
// nobody has is taken even when ctx has ended: it is for what follows to say so. After nil the
// caller owes an End.
func (t Turn) Take(ctx context.Context) error {
	if t.Try() {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Try takes the turn if nobody has it. After true the caller owes an End.
func (t Turn) Try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// End gives the turn to the next.
func (t Turn) End() { <-t }
