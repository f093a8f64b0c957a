// Package turn is a mutex whose lock operation takes a context.
package turn

import "context"

// Turn is held by one at a time. It holds a token then, so that it can stand in a select too.
type Turn chan struct{}

// New returns a free Turn.
func New() Turn { return make(Turn, 1) }

// Take waits for the turn, at most until ctx ends, and returns the cause of that end. Take takes a
// free turn even when ctx has ended; the code that follows reports that. After nil the caller owes
// an End.
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

// Try takes the turn if it is free. After true the caller owes an End.
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
