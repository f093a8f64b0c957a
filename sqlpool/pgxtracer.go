package sqlpool

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pooler"
)

// pgxTracer is where pgx and pgxpool tell the pool of acquisitions, releases, dials and failures.
type pgxTracer struct {
	b      *pgxBackend
	dialer *pgxDialer // of the connection; nil: it is the tracer of pgxpool
	// user is the user's own tracer of acquisitions, if any. It is called from here: pgxpool must
	// get the context that the pool makes, and the pool must see the caller's.
	user pgxpool.AcquireTracer
	// userRelease is the user's own tracer of releases, if any. A panic of it would cost the
	// connection's place.
	userRelease pgxpool.ReleaseTracer
}

// TraceAcquireStart gets the caller a permit. On the fast path it allocates nothing.
func (t *pgxTracer) TraceAcquireStart(
	ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireStartData,
) context.Context {
	b := t.b
	if _, ok := ctx.(*fillContext); ok && pool == b.pool {
		return ctx
	}
	if t.user != nil {
		ctx = t.user.TraceAcquireStart(ctx, pool, data)
	}
	if pool != b.pool { // a caller made it from a configuration of this one
		return ctx
	}
	if !b.base.gate.Enter() {
		return &refusedContext{ctx, b, b.base.refusal()}
	}
	if d := b.base.down(); d != nil {
		b.base.gate.Leave()
		return &refusedContext{ctx, b, d}
	}
	ready, quick := b.tryPermit(ctx)
	if ready == permitIdle {
		return quick
	}
	start := time.Now()
	if ready == permitNone {
		if err := b.awaitPermit(ctx, start); err != nil {
			b.base.gate.Leave()
			return &refusedContext{ctx, b, err}
		}
	}
	return b.waitUnder(ctx, start)
}

// TraceAcquireEnd books the outcome.
func (t *pgxTracer) TraceAcquireEnd(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	b := t.b
	if _, ok := ctx.(*fillContext); ok && pool == b.pool {
		return
	}
	if t.user != nil { // a panic there would keep the connection from its caller, and from all others
		_ = b.base.events.Panicked("TraceAcquireEnd", guard.Catch(func() { t.user.TraceAcquireEnd(ctx, pool, data) }))
	}
	if pool != b.pool {
		return
	}
	if c, ok := ctx.(*refusedContext); ok && c.b == b {
		b.base.metrics.countRefusal(c.err)
		return
	}
	waited, quick := b.ended(ctx)
	if data.Conn == nil { // without an error: a hook of the user's has panicked, and pgxpool has lost the connection
		b.givenUp(claimUnder(ctx))
		b.base.gate.Leave()
		b.base.metrics.countRefusal(data.Err)
		if fault.PoolClosed(data.Err) {
			b.noticeClosed(ctx)
		} else if fault.ConnectionLevel(data.Err) {
			b.base.observer.Observe(data.Err)
		}
		return
	}
	r := connOf(data.Conn.PgConn())
	b.mu.Lock()
	b.holding++
	b.events++
	if quick != nil {
		b.doneLocked(quick, t.user != nil || b.hooked())
	}
	b.mu.Unlock()
	b.base.evictor.Wake()
	now := r.at
	if now.IsZero() {
		now = time.Now()
	}
	b.base.metrics.wait.Record(waited)
	b.base.held.HoldAt(&r.entry, poolkeeper.KindConn, now)
}

// returnLocked books the return of a connection. It reports whether the connection must be closed
// because it is stale.
func (b *pgxBackend) returnLocked(r *pgxConn, doomed bool, now time.Time) (retired bool) {
	switch {
	case doomed:
		b.holding--
		r.owes, r.reason = true, poolkeeper.EvictedDead
	case b.retireLocked(r, now):
		b.holding--
		return true
	case b.after:
		r.releasing = true
	default:
		b.holding--
		b.permits--
		b.grantLocked()
	}
	return false
}

// TraceRelease books a connection as returned. A connection that pgxpool is about to close keeps
// its place until it is closed, as in pgxpool.
func (t *pgxTracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	b, conn := t.b, data.Conn
	if t.userRelease != nil {
		_ = b.base.events.Panicked("TraceRelease", guard.Catch(func() { t.userRelease.TraceRelease(pool, data) }))
	}
	if pool != b.pool {
		return
	}
	r := connOf(conn.PgConn())
	if r == nil {
		return
	}
	now := time.Now()
	d, held := b.base.held.ReleaseAt(&r.entry, now)
	if !held {
		b.givenBack(conn, r) // or it was acquired with all that was idle
		return
	}
	b.base.metrics.use.Record(d)
	if !conn.IsClosed() {
		b.base.metrics.shortUse.Record(d)
	}
	lost := conn.IsClosed()
	doomed := lost || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I'
	lastErr := r.lastErr
	b.mu.Lock()
	if !lost {
		r.used, r.seen = now, now
	}
	r.at, r.lastErr = time.Time{}, nil
	if r.candidate {
		b.clearLocked(r)
	}
	b.events++
	retired := b.returnLocked(r, doomed, now)
	tooMany := b.open > b.max // the limit was lowered
	b.mu.Unlock()
	b.base.gate.Leave()
	if retired {
		b.hangUp(b.life, conn) // pgxpool sees that it is closed, and takes it out
	}
	if tooMany {
		b.flush()
	}
	if lost {
		b.base.noteDiedInUse(lastErr, now)
	} else {
		b.base.observer.Succeeded()
	}
}

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
