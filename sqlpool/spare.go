package sqlpool

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

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
			Text: "the server answers and refuses the query of checks, which counts as healthy; grant the privilege or set another CheckQuery",
		})
	}
	return nil
}

// serverIsFull reports whether the server grants no connection more.
func serverIsFull(err error) bool { return fault.Classify(err).Kind == health.KindTooManyConnections }

// withIdle runs f on an idle connection, which is closed if f returns false. It reports false if
// none is idle, or f did.
func (b *dbBackend) withIdle(ctx context.Context, f func(context.Context, *native) bool) bool {
	x, ok := b.takeOne(ctx)
	if !ok {
		return false
	}
	alive := f(ctx, x.n)
	if alive {
		b.mu.Lock()
		x.n.seen = time.Now()
		b.mu.Unlock()
		b.giveBack(x)
	} else {
		b.drop(x, poolkeeper.EvictedDead)
	}
	b.came(1)
	return alive
}

// takeOne takes out one idle connection. It reports false if there is none.
func (b *dbBackend) takeOne(ctx context.Context) (taken, bool) {
	b.mu.Lock()
	if last := len(b.prefilled) - 1; last >= 0 && !b.closed {
		n := b.prefilled[last]
		b.prefilled = b.prefilled[:last]
		b.swept++
		b.coming++
		b.mu.Unlock()
		return taken{n: n}, true
	}
	b.mu.Unlock()
	lease, w := b.lease(ctx)
	if lease == nil {
		return taken{}, false
	}
	return taken{lease: lease, w: w, n: w.n}, true
}

// withIdle does the same on pgxpool. It takes a permit, so that no caller counts on the connection
// meanwhile.
func (b *pgxBackend) withIdle(ctx context.Context, f func(context.Context, *pgx.Conn) bool) bool {
	c := b.takeOne(ctx)
	if c == nil {
		return false
	}
	defer b.givePermit()
	if !f(ctx, c.Conn()) {
		b.mu.Lock()
		connOf(c.Conn().PgConn()).discounted = true
		b.open--
		b.mu.Unlock()
		b.drop(ctx, c, poolkeeper.EvictedDead)
		return false
	}
	b.mu.Lock()
	connOf(c.Conn().PgConn()).seen = time.Now()
	b.mu.Unlock()
	c.Release()
	return true
}

// takeOne takes out one idle connection under a permit of its own, or returns nil.
func (b *pgxBackend) takeOne(ctx context.Context) *pgxpool.Conn {
	b.mu.Lock()
	ok := b.waiting.Len() == 0 && b.mayLocked() && b.permits < b.open
	if ok {
		b.permits++
		b.events++
	}
	b.mu.Unlock()
	if !ok {
		return nil
	}
	resume := b.standStill()
	idle := b.pool.AcquireAllIdle(&sweepContext{ctx}) //nolint:contextcheck // it is ctx, marked
	if len(idle) == 0 {
		resume()
		b.givePermit()
		return nil
	}
	releaseAll(idle[1:])
	resume()
	return idle[0]
}
