// Package rotation tells a changed password from tokens that are new for each login.
//
// A rotated password means that the old one will be withdrawn, so the pool must replace the
// connections that it opened. Tokens (AWS IAM) differ at each login, and connections opened by them
// stay valid. Replacing those connections would fetch new tokens, which would look like the next
// change, for ever. So a changed answer counts only if the same answer comes again after a while.
package rotation

import (
	"context"
	"sync"
	"time"
)

// Wait is how long after a function has given a new answer it is asked again.
const Wait = 2 * time.Second

// Login is a user and a password. It is never to be printed.
type Login struct{ User, Password string }

// Watch compares the answers of one function. The zero value is ready. It is safe for concurrent
// use.
type Watch struct {
	mu        sync.Mutex // guards the following
	known     bool
	last      Login
	wondering bool // a caller owes a Lasting
	mints     bool // every answer is another
}

// Changed takes note of an answer and reports whether it differs from the one before. Then the
// caller owes a Lasting. While that is owed, and once the answers have turned out to be tokens,
// Changed reports false.
func (w *Watch) Changed(now Login) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.known && w.last != now && !w.mints && !w.wondering
	w.known, w.last = true, now
	w.wondering = w.wondering || changed
	return changed
}

// Lasting waits, asks again, within patience, and reports whether the answer is still now. It
// blocks until then, at most until ctx ends.
func (w *Watch) Lasting(ctx context.Context, patience time.Duration, now Login, ask func(context.Context) (Login, error)) bool {
	t := time.NewTimer(Wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var again Login
	err := ctx.Err()
	if err == nil {
		again, err = ask(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wondering = false
	w.mints = w.mints || err == nil && again != now
	return err == nil && again == now
}
