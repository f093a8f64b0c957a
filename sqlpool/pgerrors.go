package sqlpool

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	case refusesWritesPG(c, e):
		b.demoted(r, e)
	case e.Code != readOnlyTransaction && connectionLevel(e):
		b.core.observer.Observe(e)
	}
}

// demoted notes that the server refuses writes.
func (b *pgBackend) demoted(r *pgRecord, e *pgconn.PgError) {
	r.demoted.Store(true)
	b.core.observer.Observe(e)
	b.core.refusedWrite(r.generation, e)
}

const (
	readOnlyTransaction = "25006"
	notSupported        = "0A000"
)

// refusesWritesPG recognizes the refusals that are news about the server: it was demoted, or set
// read-only. Since PostgreSQL 14 the server keeps its clients informed of both ways in which it can
// be read-only by itself; if neither holds, the session asked to be read-only. A standby calls some
// statements not supported that a primary executes.
func refusesWritesPG(c *pgconn.PgConn, e *pgconn.PgError) bool {
	standby := c.ParameterStatus("in_hot_standby")
	switch e.Code {
	case readOnlyTransaction:
		return standby != "off" || c.ParameterStatus("default_transaction_read_only") != "off"
	case notSupported:
		return standby == "on"
	default:
		return false
	}
}

// ended notes how a call of pgx on a connection ended.
func (t *pgTracer) ended(c *pgx.Conn, err error) {
	if err == nil {
		return
	}
	b, r := t.b, record(c.PgConn())
	b.explainPooler(err)
	said, known := errors.AsType[*pgconn.PgError](err) // to heard
	if r != nil {
		again := r.lastErr != nil && errors.Is(err, r.lastErr) // a query's own Prepare, or part of a batch
		// A server that was set read-only says so behind the first error that comes of it: heard
		// did not know yet.
		if !again && !r.demoted.Swap(false) && known && refusesWritesPG(c.PgConn(), said) {
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
	if lost || connectionLevel(err) {
		b.core.observer.Observe(err)
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
