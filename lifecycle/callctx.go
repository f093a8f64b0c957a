package lifecycle

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call of a component. It ends at its deadline, when the call is
// over, and when its parent (the context of the pass) ends. Most components never look at it, so
// the machinery of a real context is made when Done is called first: without that, a registry of
// 10,000 components would spend most of its time on timers.
//
//nolint:containedctx // it is one
type callContext struct {
	r        *Registry
	n        *node           // its labels are in the context, so that goroutines the component labels keep ours
	parent   context.Context // ends with the pass
	deadline instant         // does not change once the component is called

	mu    sync.Mutex // guards the following
	real  *realContext
	ended endCause // what was seen without a real context
}

// realContext is a context of the standard library.
//
//nolint:containedctx // it is one
type realContext struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// endCause says why a context has ended: a context ends once.
type endCause uint8

const (
	notEnded endCause = iota
	endedCanceled
	endedLate
)

func (e endCause) err() error {
	switch e {
	case endedCanceled:
		return context.Canceled
	case endedLate:
		return context.DeadlineExceeded
	case notEnded:
	}
	return nil
}

var _ context.Context = (*callContext)(nil)

// String keeps fmt from looking into c, which is not free of races.
func (c *callContext) String() string { return "lifecycle.callContext" }

func (c *callContext) Deadline() (time.Time, bool) { return c.r.wall(c.deadline), true }

func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real = c.realLocked()
	}
	return c.real.ctx.Done()
}

func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real != nil {
		return c.real.ctx.Err()
	}
	return c.lookLocked(c.r.now()).err()
}

func (c *callContext) Value(key any) any {
	if v := c.n.labels.Value(key); v != nil {
		return v
	}
	c.mu.Lock()
	real := c.real
	c.mu.Unlock()
	if real != nil {
		return real.ctx.Value(key)
	}
	return c.parent.Value(key)
}

// lookLocked returns why the context has ended, and remembers it.
func (c *callContext) lookLocked(now instant) endCause {
	if c.ended == notEnded {
		switch c.parent.Err() {
		case nil:
			if now >= c.deadline {
				c.ended = endedLate
			}
		case context.DeadlineExceeded:
			c.ended = endedLate
		default:
			c.ended = endedCanceled
		}
	}
	return c.ended
}

// realLocked makes the context behind c.
func (c *callContext) realLocked() *realContext {
	switch c.ended {
	case notEnded:
		ctx, cancel := context.WithDeadline(c.parent, c.r.wall(c.deadline))
		return &realContext{ctx, cancel}
	case endedLate:
		ctx, cancel := context.WithDeadline(context.WithoutCancel(c.parent), c.r.birth)
		return &realContext{ctx, cancel}
	case endedCanceled:
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.parent))
	cancel(context.Cause(c.parent))
	return &realContext{ctx, func() { cancel(nil) }}
}

// end cancels the context: the call is over.
func (c *callContext) end(now instant) {
	c.mu.Lock()
	real := c.real
	if real == nil && c.lookLocked(now) == notEnded {
		c.ended = endedCanceled
	}
	c.mu.Unlock()
	if real != nil {
		real.cancel()
	}
}
