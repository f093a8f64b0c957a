package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// errResumed ends a Pause that had not yet come to rest.
var errResumed = errors.New("sqlpool: Resume was called meanwhile")

// pauseFor makes callers wait, until what is in use has come back and every connection is closed.
func (c *core) pauseFor(ctx context.Context) error {
	if err := c.state.Turn(ctx); err != nil {
		return fmt.Errorf("sqlpool: pause %q: %w", c.poolName(), err)
	}
	defer c.state.EndTurn()
	if !c.back.pause() {
		return nil // it is paused already
	}
	c.paused.Store(true)
	c.pauseBegins()
	if c.state.At().Refusal() != nil { // Drain has come meanwhile, and ended pauses before there was one
		c.resume(nil)
	}
	if err := c.back.emptied(ctx); err != nil {
		who := c.held.Describe(time.Now())
		c.resume(err)
		if going := c.state.At().Refusal(); going != nil && errors.Is(err, errResumed) {
			return fmt.Errorf("sqlpool: pause %q: %w", c.poolName(), going)
		}
		return fmt.Errorf("sqlpool: pause %q: %s; callers go on: %w", c.poolName(), who, err)
	}
	return nil
}

// resume lets callers go on. err is why their pause had to be given up, if it had.
func (c *core) resume(err error) {
	if c.paused.CompareAndSwap(true, false) {
		c.back.resume()
		c.pauseEnds(err)
	}
}

// pauseBegins says that callers wait.
func (c *core) pauseBegins() {
	c.mu.Lock()
	c.pausedAt = time.Now()
	c.mu.Unlock()
	c.events.Emit(event.OfPause(c.stats().InUse))
}

// pauseEnds says that callers go on.
func (c *core) pauseEnds(err error) {
	c.mu.Lock()
	began := c.pausedAt
	c.mu.Unlock()
	c.events.Emit(event.OfResume(time.Since(began), err))
}

// emptied waits until nothing is in use, throws away what is idle, and waits until nothing is open
// or about to be. It gives up when the pause is ended. opening says whether the pool itself is
// opening a connection, or has not yet decided to.
func emptied(ctx context.Context, c *core, opening func() bool) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if !c.paused.Load() {
			return errResumed
		}
		settled := !opening() // before the counts: what has been opened since is in them
		var s poolkeeper.Stats
		c.back.stats(&s)
		if settled && s.InUse == 0 && s.Open == 0 {
			return nil
		}
		if settled && s.InUse == 0 {
			c.reset(poolkeeper.EvictedReload) // again and again: a connection may have been opened meanwhile
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}
