package sqlpool

import (
	"context"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// start reaches the server as the policy says, then sets eviction and leak reports going. If it
// fails it leaves nothing of its own running (INV-13); the handle still wants a Stop.
func (m *manager) start(ctx context.Context) error {
	return m.state.Start(ctx, m.reachServer, m.startWatches)
}

// reachServer reaches the server as the policy says.
func (m *manager) reachServer(ctx context.Context) error {
	reached, err := m.state.Reach(ctx, m.cfg().Start, m.events, m.attempt)
	if reached {
		m.warnOfLimits(ctx)
	}
	if err == nil && m.evictor != nil {
		err = m.evictor.Start(ctx)
	}
	return err
}

// startWatches has leaks be reported, and files be looked at.
func (c *base) startWatches() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		w.Start()
	}
}

// attempt is one check, bounded by DialTimeout (INV-10).
func (m *manager) attempt(ctx context.Context) error {
	if m.cfg().DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.cfg().DialTimeout)
		defer cancel()
	}
	began := monotime.Now()
	err := m.back.check(ctx)
	if err != nil && m.cfg().Start == poolkeeper.StartDegraded {
		m.breaker.Trip(began, err)
	}
	return err
}
