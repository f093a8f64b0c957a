package sqlpool

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// hangUp closes a connection and waits until nothing of it is left: pgconn may be busy asking the
// server to cancel a query that was given up. At the end of ctx, or of hangUpLimit, it closes the
// socket; Stop waits for the rest.
func (b *pgxBackend) hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, hangUpLimit)
	defer cancel()
	sock := belowTLS(c.PgConn().Conn())
	defer context.AfterFunc(ctx, func() { b.base.cut(sock) })()
	_ = c.Close(ctx)
	done := c.PgConn().CleanupDone()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	// Owner: the backend. pgconn's own goroutine ends with the socket and with its cancel request,
	// which pgxDialer bounds.
	b.pending.Go(func() { <-done })
}

// retireLocked says why a connection that a caller returns at now must not become idle, and notes
// it.
func (b *pgxBackend) retireLocked(r *pgxConn, now time.Time) (stale bool) {
	reason := b.base.stale(&r.times, now)
	if reason == "" {
		return false
	}
	r.owes, r.reason = true, reason
	return true
}
