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

// hearing returns an OnPgError that draws conclusions and leaves it to the user's whether the
// connection is closed.
func (b *pgBackend) hearing(user pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(c *pgconn.PgConn, e *pgconn.PgError) bool {
		b.heard(c, e)
		return user == nil || user(c, e)
	}
}

// heard draws conclusions from an error of the server. Errors before a connection is established
// are those of its dial. It may run on a goroutine of pgconn, which reads what the server still has
// to say after a caller gave up.
func (b *pgBackend) heard(c *pgconn.PgConn, e *pgconn.PgError) {
	r := record(c)
	if r == nil {
		return
	}
	switch {
	case fault.PGRefusesWrites(c, e):
		b.demoted(r, e)
	case e.Code != fault.ReadOnlyTransaction && fault.ConnectionLevel(e):
		b.base.observer.Observe(e)
	}
}

// demoted notes that the server refuses writes.
func (b *pgBackend) demoted(r *pgRecord, e *pgconn.PgError) {
	r.demoted.Store(true)
	b.base.observer.Observe(e)
	b.base.refusedWrite(b, r.generation, e)
}

// ended notes how a call of pgx on a connection ended.
func (t *pgTracer) ended(c *pgx.Conn, err error) {
	if err == nil {
		return
	}
	b, r := t.b, record(c.PgConn())
	if b.pooled.Load() {
		pooler.Explain(err, b.execMode())
	}
	said, known := errors.AsType[*pgconn.PgError](err) // to heard
	if r != nil {
		again := r.lastErr != nil && errors.Is(err, r.lastErr) // a query's own Prepare, or part of a batch
		// A server that was set read-only says so behind the first error that comes of it: heard
		// did not know yet.
		if !again && !r.demoted.Swap(false) && known && fault.PGRefusesWrites(c.PgConn(), said) {
			b.demoted(r, said)
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
func (t *pgTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	t.line.begin()
	return ctx
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (t *pgTracer) TraceCopyFromEnd(_ context.Context, c *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.line.rest(c)
	t.ended(c, data.Err)
}
