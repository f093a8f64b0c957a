package sqlpool

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// check asks the server for a sign of life. Before Start it may be asked too.
func (m *manager) check(ctx context.Context) error {
	if m.state.At() >= life.Stopping {
		return fmt.Errorf("sqlpool: check %q: %w", m.poolName(), poolkeeper.ErrClosed)
	}
	defer m.warnOfExpiries()
	if err := m.back.check(ctx); err != nil {
		return fmt.Errorf("sqlpool: check %q: %w", m.poolName(), fault.Wrap(err))
	}
	m.breaker.Answer()
	return nil
}

// An answer is a sign of life: a server that grants no connection more, or refuses the check's
// query for lack of a privilege, is up.

// answered returns err, how a check's query on an established connection ended, unless it says that
// the check may not ask.
func (c *base) answered(err error) error {
	if fault.Classify(err).Kind != health.KindAuthorization {
		return err
	}
	if c.unasked.CompareAndSwap(false, true) {
		c.events.Emit(event.Event{
			Kind: event.Misuse, Level: slog.LevelWarn, Err: fault.Wrap(err),
			Text: "the server answers and refuses the query of checks, which counts as healthy; " +
				"grant the privilege or set another CheckQuery",
		})
	}
	return nil
}

// serverIsFull reports whether the server grants no connection more.
func serverIsFull(err error) bool { return fault.Classify(err).Kind == health.KindTooManyConnections }

// evenIfDown marks the context of a Check: it finds out for itself whether a server that counts as
// down is back.
type evenIfDown struct{}

// checkDial opens the connection of the checks, but for looks and limits not while the server is
// known to be down. Attempts before the pool runs are Start's affair: if that fails it leaves
// nothing at work.
func checkDial[T any](ctx context.Context, c *base, dial func(context.Context) (T, error)) (T, error) {
	if d := c.down(); d != nil && ctx.Value(evenIfDown{}) == nil {
		var none T
		return none, d
	}
	began := time.Now()
	c.pace.Spend()
	conn, err := dial(ctx)
	switch {
	case c.state.At() >= life.Running:
		c.dialled(began, err)
	case err != nil:
		c.metrics.failed(err)
	}
	return conn, err
}
