// Package ctxmutex is a mutex whose Lock takes a context.
package ctxmutex

import "context"

// Mutex is held by one caller at a time. It holds a token then, so that a select can lock it too.
type Mutex chan struct{}

// New returns an unlocked Mutex.
func New() Mutex { return make(Mutex, 1) }

// Lock waits for m, at most until ctx ends, and returns the cause of that end. It locks a free Mutex
// even when ctx has ended; the code that follows reports that. After nil the caller owes an Unlock.
func (m Mutex) Lock(ctx context.Context) error {
	if m.TryLock() {
		return nil
	}
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TryLock locks m if it is free. After true the caller owes an Unlock.
func (m Mutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// Unlock frees m for the next caller.
func (m Mutex) Unlock() { <-m }
