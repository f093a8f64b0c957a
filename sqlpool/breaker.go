package sqlpool

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// newBreaker returns the circuit breaker of a pool's server, as FailFastAfter says. It hears of
// every dial: of callers, of the evictor and of checks.
func (m *manager) newBreaker() *breaker.Breaker {
	return breaker.New(breaker.Config{
		After: func() time.Duration { return m.cfg().FailFastAfter },
		Trial: func(ctx context.Context) error {
			err := m.events.Guarded("a hook, in a trial", func() error { return m.back.try(ctx, m.back.current(), m.cfg()) })
			m.pace.Spend()
			if err != nil {
				m.metrics.failed(err)
				m.pace.Failed()
			}
			return err
		},
		Spread:       m.pace.Interval,
		TrialTimeout: func() time.Duration { return m.cfg().DialTimeout },
		Judge:        fault.Judge,
		Alive:        func(since monotime.Time) bool { return m.back.answeredSince(since) },
		Suspended:    m.paused.Load,
		Error: func(since time.Time, err error) *poolkeeper.DownError {
			return &poolkeeper.DownError{
				Pool: m.poolName(), Since: since, Advice: fault.Classify(err).Advice, Err: fault.Wrap(err),
			}
		},
		WentDown: m.wentDown,
		CameUp: func(down time.Duration) {
			m.evictor.Wake() // it may have to fill up
			m.events.Emit(event.OfUp(down))
		},
	})
}

// wentDown ends the waits of all callers.
func (m *manager) wentDown(down *poolkeeper.DownError) {
	m.back.refuseAll(down)
	m.events.Emit(event.OfDown(down.Since, down.Err))
}

// down returns what callers get at once while the server is known to be down, or nil. A paused pool
// holds them up.
func (c *base) down() *poolkeeper.DownError {
	if d := c.breaker.Down(); d != nil && !c.paused.Load() {
		return d
	}
	return nil
}
