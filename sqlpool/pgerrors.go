package sqlpool

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pooler"
)

// Two ways lead to the failures of a connection's traffic. pgconn's OnPgError gets every error that
// the server sends, whatever it answers: simple and extended queries, batches, COPY, Prepare, and
// what goes through PgConn. The tracer gets how the calls of pgx end, and so the failures that the
// server says nothing about.

// onPgError returns an OnPgError that draws conclusions and leaves it to the user's whether the
// connection is closed.
func (b *pgxBackend) onPgError(user pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(c *pgconn.PgConn, e *pgconn.PgError) bool {
		b.noteServerError(c, e)
		return user == nil || user(c, e)
	}
}

// noteServerError draws conclusions from an error of the server. Errors before a connection is established
// are those of its dial. It may run on a goroutine of pgconn, which reads what the server still has
// to say after a caller gave up.
func (b *pgxBackend) noteServerError(c *pgconn.PgConn, e *pgconn.PgError) {
	r := connOf(c)
	if r == nil {
		return
	}
	switch {
	case fault.PGRefusesWrites(c, e):
		b.noteDemoted(r, e)
	case e.Code != fault.ReadOnlyTransaction && fault.ConnectionLevel(e):
		b.base.observer.Observe(e)
	}
}

// noteDemoted notes that the server refuses writes.
func (b *pgxBackend) noteDemoted(r *pgxConn, e *pgconn.PgError) {
	r.demoted.Store(true)
	b.base.observer.Observe(e)
	b.base.noteRefusedWrite(b, r.generation, e)
}

// ended notes how a call of pgx on a connection ended.
func (t *pgxTracer) ended(c *pgx.Conn, err error) {
	if err == nil {
		return
	}
	b, r := t.b, connOf(c.PgConn())
	if b.pooled.Load() {
		pooler.Explain(err, b.execMode())
	}
	said, known := errors.AsType[*pgconn.PgError](err) // to heard
	if r != nil {
		again := r.lastErr != nil && errors.Is(err, r.lastErr) // a query's own Prepare, or part of a batch
		// A server that was set read-only says so behind the first error that comes of it: heard
		// did not know yet.
		if !again && !r.demoted.Swap(false) && known && fault.PGRefusesWrites(c.PgConn(), said) {
			b.noteDemoted(r, said)
			r.demoted.Store(false)
		}
		known = known || again
		r.lastErr = err
	}
	if known {
		return
	}
	lost := c.IsClosed() && !errors.Is(err, context.Canceled) // pgx closes it when a caller gives up
	if lost || fault.ConnectionLevel(err) {
		b.base.observer.Observe(err)
	}
}

// TraceCopyFromStart notes that COPY begins. QueryTimeout does not bound it.
func (t *pgxTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	t.dialer.begin()
	return ctx
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (t *pgxTracer) TraceCopyFromEnd(_ context.Context, c *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.dialer.rest(c)
	t.ended(c, data.Err)
}
