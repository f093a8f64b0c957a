package lifecycle

import (
	"context"
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
	over   bool // end was called
}

var _ context.Context = (*callContext)(nil)

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// String keeps fmt from looking into c, which is not free of races.
func (c *callContext) String() string { return "lifecycle.callContext" }

func (c *callContext) Done() <-chan struct{} { return c.real().Done() }

func (c *callContext) Err() error {
	c.mu.Lock()
	inner, over := c.inner, c.over
	c.mu.Unlock()
	switch {
	case inner != nil:
		return inner.Err()
	case over:
		return context.Canceled
	case c.parent.Err() != nil:
		return c.parent.Err()
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
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
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.over {
			c.cancel()
		}
	}
	return c.inner
}

// end cancels the context: the call is over.
func (c *callContext) end() {
	c.mu.Lock()
	cancel := c.cancel
	c.over = true
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
