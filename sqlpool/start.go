package sqlpool

import (
	"context"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// start reaches the server as the policy says, then sets eviction and leak reports going. If it
// fails it leaves nothing of its own running (INV-13); the handle still wants a Stop.
func (c *core) start(ctx context.Context) error { return c.state.Start(ctx, c.reach, c.startWatches) }

// reach reaches the server as the policy says.
func (c *core) reach(ctx context.Context) error {
	reached, err := c.state.Reach(ctx, c.cfg().Start, c.events, c.attempt)
	if reached {
		c.warnOfLimits(ctx)
	}
	if err == nil && c.evictor != nil {
		err = c.evictor.Start(ctx)
	}
	return err
}

// startWatches has leaks be reported, and files be looked at.
func (c *core) startWatches() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		w.Start()
	}
}

// attempt is one check, bounded by DialTimeout (INV-10).
func (c *core) attempt(ctx context.Context) error {
	if c.cfg().DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg().DialTimeout)
		defer cancel()
	}
	began := monotime.Now()
	err := c.back.check(ctx)
	if err != nil && c.cfg().Start == poolkeeper.StartDegraded {
		c.breaker.Trip(began, err)
	}
	return err
}
