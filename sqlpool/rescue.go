package sqlpool

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/event"
)

const (
	fetchIdleFrom = 20 * time.Microsecond // the first pause
	fetchIdleTo   = 5 * time.Millisecond  // last
)

// fetchIdle fetches idle connections for the queue in which w stands. It is needed in two cases: a
// connection was checked in just before w queued and had not reached database/sql's free list when
// it was asked, or database/sql has seen two broken connections in a row and insists on a new one
// while the pool is full. It ends AcquireTimeout after start.
func (b *dbBackend) fetchIdle(ctx context.Context, w *waiter, start time.Time) {
	b.ownLimits()
	limit := b.base.cfg().AcquireTimeout
	for pause := fetchIdleFrom; b.waitsBesideIdle(w); pause = min(2*pause, fetchIdleTo) {
		if limit > 0 && time.Since(start) >= limit {
			return
		}
		if lease, c := b.lease(ctx); lease != nil {
			_ = lease.Raw(func(any) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.coming--
				c.handOver = true
				return driver.ErrBadConn // database/sql closes the wrapper, which hands the connection over
			})
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// waitsBesideIdle reports whether w waits beside something idle.
func (b *dbBackend) waitsBesideIdle(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.Queued() && b.idle > 0 && b.dialing == 0
}

// ownLimits takes back the limit that a caller has set on the handle. At that limit callers would
// wait inside database/sql, where the pool cannot see them. The pool itself would wait for idle
// connections that it is to sweep.
func (b *dbBackend) ownLimits() {
	if n := b.db.Stats().MaxOpenConnections; n > 0 {
		b.db.SetMaxOpenConns(0)
		b.base.events.Emit(event.Event{
			Kind: event.Misuse, Level: slog.LevelWarn, Text: "SetMaxOpenConns on a managed *sql.DB has been undone; use MaxOpen of its configuration",
			Attrs: []slog.Attr{slog.Int("value", n), slog.Int("max_open", b.base.cfg().MaxOpen)},
		})
	}
}
