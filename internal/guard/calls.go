package guard

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Calls runs a user's code that may hang. Each call has a name. While a call hangs, no other call
// of its name is made. The zero value is ready. Its methods are safe for concurrent use.
type Calls struct {
	mu   sync.Mutex // guards the following
	hung map[string]*Hung
}

// Hung is the error of code that has not returned in time.
type Hung struct { //nolint:errname // guard.Hung says it all
	began time.Time
	step  atomic.Pointer[string]
	done  chan struct{} // closed when the code has ended
}

// Error names the step at which the code hangs, and says for how long it has run.
func (h *Hung) Error() string {
	at := "it"
	if step := h.step.Load(); step != nil {
		at = *step
	}
	return fmt.Sprintf("%s does not return, called %s ago", at, time.Since(h.began).Round(100*time.Millisecond))
}

// Do runs f on a goroutine of its own and waits for it, for patience at most. It returns nil, a
// *Panic, ErrExited or a *Hung. Until Do returns nil, a *Panic or ErrExited, f may still be running.
// f may name its steps for the text of Hung.
func (c *Calls) Do(name string, patience time.Duration, f func(step func(string))) error {
	if h := c.hanging(name); h != nil {
		return h
	}
	h := &Hung{began: time.Now(), done: make(chan struct{})}
	err := ErrExited
	// Owner: Do, which waits for it. It ends with f. For an f that hangs nobody can wait, so there is
	// one of a name at most, unless two calls begin at once.
	go func() {
		defer close(h.done)
		err = Catch(func() { f(func(step string) { h.step.Store(&step) }) })
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-h.done:
		return err
	case <-timer.C:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.hung == nil {
			c.hung = make(map[string]*Hung)
		}
		c.hung[name] = h
		return h
	}
}

// hanging returns the call of that name that has not ended, or nil.
func (c *Calls) hanging(name string) *Hung {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hung[name]
	if h == nil {
		return nil
	}
	select {
	case <-h.done:
		delete(c.hung, name)
		return nil
	default:
		return h
	}
}
