package lifecycle

import (
	"context"
	"errors"
	"sync"
	"time"
)

// callContext is the context of one call of a component. It ends at its deadline, when the call is over, and when its
// parent (the context of the pass) ends. Most components never look at it, so the machinery of a real context is made
// when Done is called first: without that, a registry of 10,000 components would spend most of its time on timers.
//
//nolint:containedctx // it is one
type callContext struct {
	parent   context.Context
	labels   context.Context // pprof labels: so that goroutines the component labels keep ours
	deadline time.Time       // immutable

	mu     sync.Mutex // guards the following
	inner  context.Context
	cancel context.CancelFunc
	ended  error // why it has ended, when that was seen without an inner context
}

var _ context.Context = (*callContext)(nil)

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// String keeps fmt from looking into c, which is not free of races.
func (c *callContext) String() string { return "lifecycle.callContext" }

func (c *callContext) Done() <-chan struct{} { return c.real().Done() }

func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner != nil {
		return c.inner.Err()
	}
	return c.seenLocked(!time.Now().Before(c.deadline))
}

// seenLocked returns why the context has ended, and remembers it: a context ends once.
func (c *callContext) seenLocked(late bool) error {
	if c.ended == nil {
		c.ended = c.parent.Err()
	}
	if c.ended == nil && late {
		c.ended = context.DeadlineExceeded
	}
	return c.ended
}

func (c *callContext) Value(key any) any {
	if v := c.labels.Value(key); v != nil {
		return v
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

// real returns the context behind c, making it if need be.
func (c *callContext) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
	case c.ended == nil:
		c.inner, c.cancel = context.WithDeadline(c.parent, c.deadline)
	case errors.Is(c.ended, context.DeadlineExceeded):
		c.inner, c.cancel = context.WithDeadline(context.WithoutCancel(c.parent), time.Time{})
	default:
		inner, cancel := context.WithCancelCause(context.WithoutCancel(c.parent))
		cancel(context.Cause(c.parent))
		c.inner, c.cancel = inner, func() { cancel(nil) }
	}
	return c.inner
}

// end cancels the context: the call is over. late says whether its deadline has passed.
func (c *callContext) end(late bool) {
	c.mu.Lock()
	cancel := c.cancel
	if cancel == nil && c.seenLocked(late) == nil {
		c.ended = context.Canceled
	}
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
