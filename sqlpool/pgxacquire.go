package sqlpool

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Here is what an acquisition is given; the wait itself is awaitPermit in pgxpermit.go. An
// acquisition on pgxpool runs under one of three contexts of ours: pgxpool takes what
// TraceAcquireStart returns in place of the caller's.
//
//	refusedContext   it fails at once
//	acquisition      a connection is idle: the caller's own context, until that connection turns out to be of no use
//	waitingContext   it may take time: it ends with AcquireTimeout too

// waitKey is how a dial finds the acquisition for which it was begun.
type waitKey struct{}

// refusedContext makes pgxpool's Acquire fail with err at once.
type refusedContext struct {
	context.Context //nolint:containedctx // it is a context

	b   *pgxBackend
	err error
}

func (c *refusedContext) Done() <-chan struct{} { return ended }

func (c *refusedContext) Err() error { return c.err }

//nolint:gochecknoglobals // a constant
var ended = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// waitingContext is that of an acquisition that may take time: it ends with AcquireTimeout too, and
// then says why.
type waitingContext struct {
	context.Context //nolint:containedctx // it is a context

	b      *pgxBackend
	user   context.Context //nolint:containedctx // the caller's
	cancel context.CancelFunc
	start  time.Time

	refused atomic.Pointer[error] // why it ends before its time
	over    atomic.Bool           // the acquisition has ended
	once    sync.Once
	err     error

	fresh discarded // owned by the caller's goroutine
	claim claim
}

// waitUnder returns the context of an acquisition under ctx that began at start.
func (b *pgxBackend) waitUnder(ctx context.Context, start time.Time) *waitingContext {
	w := &waitingContext{b: b, user: ctx, start: start}
	if limit := b.base.cfg().AcquireTimeout; limit > 0 {
		w.Context, w.cancel = context.WithTimeout(ctx, limit-time.Since(start))
	} else {
		w.Context, w.cancel = context.WithCancel(ctx)
	}
	b.mu.Lock()
	b.waits[w] = struct{}{}
	b.mu.Unlock()
	if d := b.base.down(); d != nil { // refuseAll may have come before
		w.refuse(d)
	}
	return w
}

// refuse ends the wait because of err.
func (c *waitingContext) refuse(err error) {
	c.refused.CompareAndSwap(nil, &err)
	c.cancel()
}

func (b *pgxBackend) refuseAll(err error) {
	b.mu.Lock()
	b.waiting.Fail(b.waiting.Joined(), err)
	waits := slices.Collect(maps.Keys(b.waits))
	b.mu.Unlock()
	for _, w := range waits {
		w.refuse(err)
	}
}

func (b *pgxBackend) answeredSince(then monotime.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.all {
		if r.answeredSince(then) {
			return true
		}
	}
	return false
}

// Value lets a dial find the caller that caused it.
func (c *waitingContext) Value(key any) any {
	if _, ok := key.(waitKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// Err explains an end of the wait.
func (c *waitingContext) Err() error {
	err := c.Context.Err()
	if err == nil || c.over.Load() {
		return err
	}
	return c.explain()
}

// explain says why the caller gets no connection. The caller counts once, however often it tried.
func (c *waitingContext) explain() error {
	c.once.Do(func() {
		if refused := c.refused.Load(); refused != nil {
			c.err = *refused
			return
		}
		c.err = c.b.base.acquireFailed(c.user, c.b, c.start)
	})
	return c.err
}

// end ends the acquisition, and returns how long it has taken.
func (c *waitingContext) end() time.Duration {
	c.over.Store(true)
	c.cancel()
	c.b.mu.Lock()
	delete(c.b.waits, c)
	c.b.mu.Unlock()
	return time.Since(c.start)
}

// acquisition is the context of an acquisition that finds an idle connection. It is the caller's
// own context at first. If the connection is unusable, or needs a ping, AcquireTimeout bounds the
// acquisition from then on. The pool reuses it, so that an acquisition allocates nothing, unless a
// dial or a hook may have kept it.
type acquisition struct {
	context.Context //nolint:containedctx // it is a context

	b       *pgxBackend
	waiting *waitingContext // nil: not bounded yet
	dialled atomic.Bool     // a dial was begun under it
	claim   claim
}

// Value lets a dial find the caller that caused it.
func (a *acquisition) Value(key any) any {
	if _, ok := key.(waitKey); ok && a.waiting == nil {
		a.dialled.Store(true)
		return a
	}
	return a.Context.Value(key)
}

// bound bounds an acquisition that began at start by AcquireTimeout. Only its caller's goroutine
// calls it.
func (b *pgxBackend) bound(ctx context.Context, start time.Time) {
	if a, ok := ctx.(*acquisition); ok && a.b == b && a.waiting == nil {
		a.waiting = b.waitUnder(a.Context, start) //nolint:contextcheck // it is the caller's
		a.Context = a.waiting
	}
}

// ended ends the wait of an acquisition under ctx, and returns how long it has taken, and its
// context if it found an idle connection.
func (b *pgxBackend) ended(ctx context.Context) (waited time.Duration, quick *acquisition) {
	w, _ := ctx.(*waitingContext)
	if a, ok := ctx.(*acquisition); ok && a.b == b {
		w, quick = a.waiting, a
	}
	if w != nil && w.b == b {
		waited = w.end()
	}
	return waited, quick
}

// acquisitionLocked returns a context for a caller that has the right to an idle connection.
func (b *pgxBackend) acquisitionLocked(ctx context.Context) *acquisition {
	n := len(b.reusable)
	if n == 0 {
		return &acquisition{Context: ctx, b: b}
	}
	a := b.reusable[n-1]
	b.reusable = b.reusable[:n-1]
	a.Context = ctx
	return a
}

// doneLocked takes back the context of a successful acquisition for reuse. It does not if a dial or
// a hook may have kept it: a dial outlives its caller, and the user's hooks do as they please.
func (b *pgxBackend) doneLocked(a *acquisition, hooks bool) {
	if hooks || a.waiting != nil || a.dialled.Load() || len(b.reusable) >= b.max {
		return
	}
	a.Context, a.claim = nil, claim{}
	b.reusable = append(b.reusable, a)
}

// explained says why an acquisition of b that began at start, under ctx, gets no connection.
func (b *pgxBackend) explained(ctx context.Context, start time.Time) error {
	if w := b.waitingOf(ctx); w != nil {
		return w.explain()
	}
	return b.base.acquireFailed(ctx, b, start)
}

// waitingOf returns the context by which an acquisition of b is bounded, or nil.
func (b *pgxBackend) waitingOf(ctx context.Context) *waitingContext {
	w, _ := ctx.(*waitingContext)
	if a, ok := ctx.(*acquisition); ok {
		w = a.waiting
	}
	if w != nil && w.b == b {
		return w
	}
	return nil
}
