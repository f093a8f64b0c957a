package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// cutGrace is how long after its deadline a Stop waits for what it has cut off to notice.
const cutGrace = 50 * time.Millisecond

var (
	errStopping = errors.New("sqlpool: stopping")
	errAborted  = errors.New("sqlpool: aborted") //nolint:errname // a cause, not for callers to compare with
)

// HeldError is returned by Stop and Abort when callers still held connections at the end.
type HeldError struct {
	Pool    string              // name of the pool
	Holders []poolkeeper.Holder // who, the oldest first; empty where it cannot be known
	Cut     int                 // connections whose sockets were closed under their holders
	Left    int                 // connections that stay open until they are returned: their sockets are out of reach
	Err     error               // what ended the wait, and what else went wrong

	now time.Time
}

// Error names up to five holders with kind, age and place.
func (e *HeldError) Error() string {
	const named = 5
	var b strings.Builder
	fmt.Fprintf(&b, "sqlpool: stop %q: still held", e.Pool)
	if n := len(e.Holders); n > 0 {
		fmt.Fprintf(&b, " (%d): ", n)
		for i, h := range e.Holders[:min(n, named)] {
			if i > 0 {
				b.WriteString("; ")
			}
			fmt.Fprintf(&b, "%s for %s by %s", h.Kind, e.now.Sub(h.Since).Round(time.Millisecond), holders.Site(h.Stack))
		}
		if n > named {
			fmt.Fprintf(&b, "; and %d more", n-named)
		}
	}
	if e.Cut > 0 {
		fmt.Fprintf(&b, "; %s cut off", count(e.Cut, "connection"))
	}
	if e.Left > 0 {
		fmt.Fprintf(&b, "; %s could not be cut off and will be closed when returned", count(e.Left, "connection"))
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns Err.
func (e *HeldError) Unwrap() error { return e.Err }

// drain refuses new work from now on and waits for the work in flight (INV-8).
func (c *core) drain(ctx context.Context) error {
	c.mu.Lock()
	if c.phase < phaseDraining {
		c.phase = phaseDraining
	}
	name := c.name
	c.mu.Unlock()
	c.gate.Close()
	if err := c.back.settle(ctx); err != nil {
		return fmt.Errorf("sqlpool: drain %q: %s: %w", name, c.held.Describe(time.Now()), err)
	}
	return nil
}

// stop drains and closes. The first call does it; others wait for the first. All return the same error, or their own
// context's.
func (c *core) stop(ctx context.Context) error {
	stopCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	if done := c.stopDone; done != nil {
		c.mu.Unlock()
		return c.awaitStop(ctx, done)
	}
	c.stopDone, c.cancelStop = make(chan struct{}), cancel
	c.phase = max(c.phase, phaseDraining)
	cancelStart, startDone := c.cancelStart, c.startDone
	c.mu.Unlock()

	c.gate.Close()
	if cancelStart != nil {
		cancelStart(errStopping)
	}
	err := c.shut(stopCtx, startDone)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.stopErr, c.cancelStop = phaseStopped, err, nil
	close(c.stopDone)
	return err
}

func (c *core) awaitStop(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.stopErr
	case <-ctx.Done():
		return fmt.Errorf("sqlpool: stop %q: another Stop is still under way: %w", c.poolName(), context.Cause(ctx))
	}
}

// abort is a stop that waits for nobody.
func (c *core) abort() error {
	ctx, cancel := context.WithCancelCause(context.Background()) //nolint:forbidigo // Abort has no caller's context
	cancel(errAborted)
	c.mu.Lock()
	hurry, done := c.cancelStop, c.stopDone
	c.mu.Unlock()
	if hurry == nil {
		return c.stop(ctx)
	}
	hurry(errAborted) // the Stop under way goes on as if its deadline had come
	<-done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopErr
}

// shut ends the pool's own work, waits for callers, closes, and at the end of ctx cuts off who is left.
func (c *core) shut(ctx context.Context, startDone <-chan struct{}) error {
	var errs []error
	if startDone != nil {
		select {
		case <-startDone:
		case <-ctx.Done():
			errs = append(errs, errors.New("a Start is still under way"))
		}
	}
	if c.watch != nil {
		c.watch.Stop()
	}
	if c.evictor != nil {
		errs = append(errs, c.evictor.Stop(ctx))
	}
	settled := c.back.settle(ctx)
	c.mu.Lock()
	c.phase = phaseStopping
	name := c.name
	c.mu.Unlock()
	if settled == nil {
		err := errors.Join(append(errs, c.back.close(ctx))...)
		if err == nil {
			return nil
		}
		errs = []error{err}
	}

	now, late := time.Now(), c.held.List()
	cut, left := c.back.cut()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	closed := errors.Join(c.back.settle(grace), c.back.close(grace))
	if settled == nil {
		if closed == nil {
			return nil // it took a cut to close, and nobody lost anything by it
		}
		return fmt.Errorf("sqlpool: stop %q: %w", name, errors.Join(errs...))
	}
	return &HeldError{
		Pool: name, Holders: late, Cut: cut, Left: left, now: now,
		Err: errors.Join(append(errs, context.Cause(ctx))...),
	}
}

// handleClosed ends the pool's own work after a caller has closed the native handle himself. What is in flight
// goes on, and closes its connections as it returns them.
func (c *core) handleClosed(ctx context.Context) error {
	c.mu.Lock()
	c.phase = max(c.phase, phaseStopping)
	cancelStart := c.cancelStart
	c.mu.Unlock()
	c.gate.Close()
	if cancelStart != nil {
		cancelStart(errStopping)
	}
	if c.watch != nil {
		c.watch.Stop()
	}
	if c.evictor != nil {
		return c.evictor.Stop(ctx)
	}
	return nil
}
