package sqlpool

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// timedContext is that of a statement without a deadline of its own, bounded by QueryTimeout.
type timedContext struct {
	context.Context //nolint:containedctx // it is a context

	of     traced
	cancel context.CancelFunc
}

// traced is what pgx tells a tracer of. A statement that is prepared on the way runs under the
// context of its query.
type traced int

const (
	tracedQuery traced = iota
	tracedBatch
	tracedPrepare
)

// bounded returns ctx, or if it has no deadline a context that ends with QueryTimeout.
func (t *pgxTracer) bounded(ctx context.Context, of traced) context.Context {
	limit := t.b.base.cfg().QueryTimeout
	if limit <= 0 {
		return ctx
	}
	if _, has := ctx.Deadline(); has {
		return ctx
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	return &timedContext{bounded, of, cancel}
}

// ends ends what bounded has begun.
func ends(ctx context.Context, of traced) {
	if c, ok := ctx.(*timedContext); ok && c.of == of {
		c.cancel()
	}
}

// TraceQueryStart bounds Exec, Query and QueryRow, and with them Begin, Commit and Rollback. pgx
// calls TraceQueryEnd when the rows are closed.
func (t *pgxTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t.dialer.begin()
	return t.bounded(ctx, tracedQuery)
}

// TraceQueryEnd ends it.
func (t *pgxTracer) TraceQueryEnd(ctx context.Context, c *pgx.Conn, data pgx.TraceQueryEndData) {
	ends(ctx, tracedQuery)
	t.dialer.rest(c)
	t.ended(c, data.Err)
}

// TraceBatchStart bounds SendBatch, until its results are closed.
func (t *pgxTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t.dialer.begin()
	return t.bounded(ctx, tracedBatch)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t *pgxTracer) TraceBatchQuery(_ context.Context, c *pgx.Conn, data pgx.TraceBatchQueryData) {
	t.ended(c, data.Err)
}

// TraceBatchEnd ends it.
func (t *pgxTracer) TraceBatchEnd(ctx context.Context, c *pgx.Conn, data pgx.TraceBatchEndData) {
	ends(ctx, tracedBatch)
	t.dialer.rest(c)
	t.ended(c, data.Err)
}

// TracePrepareStart bounds Prepare.
func (t *pgxTracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	t.dialer.prepares = !t.dialer.busy.Swap(true)
	return t.bounded(ctx, tracedPrepare)
}

// TracePrepareEnd ends it.
func (t *pgxTracer) TracePrepareEnd(ctx context.Context, c *pgx.Conn, data pgx.TracePrepareEndData) {
	ends(ctx, tracedPrepare)
	if t.dialer.prepares {
		t.dialer.rest(c)
	}
	t.ended(c, data.Err)
}
