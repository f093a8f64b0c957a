package sqlpool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
)

// pgTracer is where pgx and pgxpool tell the pool of acquisitions, releases, dials and failures.
type pgTracer struct {
	b *pgBackend
	// user is the user's own tracer of acquisitions, if any. It is called from here: pgxpool must get the context
	// that the pool makes, and the pool must see the caller's.
	user pgxpool.AcquireTracer
}

// refusedContext makes pgxpool's Acquire fail with err at once.
type refusedContext struct {
	context.Context //nolint:containedctx // it is a context

	b   *pgBackend
	err error
}

func (c *refusedContext) Done() <-chan struct{} { return ended }
func (c *refusedContext) Err() error            { return c.err }

var ended = func() chan struct{} { c := make(chan struct{}); close(c); return c }() //nolint:gochecknoglobals // a constant

// waitingContext is that of an acquisition that may take time: it ends with AcquireTimeout too, and then says why.
type waitingContext struct {
	context.Context //nolint:containedctx // it is a context

	b      *pgBackend
	user   context.Context //nolint:containedctx // the caller's
	cancel context.CancelFunc
	start  time.Time

	once sync.Once
	err  error
}

// Err explains an end of the wait.
func (c *waitingContext) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	c.once.Do(func() { c.err = c.b.core.acquireFailed(c.user, c.start) })
	return c.err
}

// TraceAcquireStart gets the caller a permit. What it returns is the caller's own context wherever possible: on the
// fast path nothing is allocated.
func (t *pgTracer) TraceAcquireStart(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireStartData) context.Context {
	b := t.b
	if _, ok := ctx.(*fillContext); ok {
		return ctx
	}
	if t.user != nil {
		ctx = t.user.TraceAcquireStart(ctx, pool, data)
	}
	if !b.core.gate.Enter() {
		return &refusedContext{ctx, b, b.core.refusal()}
	}
	ready := b.tryPermit()
	if ready == permitIdle {
		return ctx
	}
	start := time.Now()
	if ready == permitNone {
		if err := b.awaitPermit(ctx, start); err != nil {
			b.core.gate.Leave()
			return &refusedContext{ctx, b, err}
		}
	}
	w := &waitingContext{b: b, user: ctx, start: start}
	if limit := b.core.cfg.AcquireTimeout; limit > 0 {
		w.Context, w.cancel = context.WithTimeout(ctx, limit-time.Since(start))
	} else {
		w.Context, w.cancel = context.WithCancel(ctx)
	}
	return w
}

// TraceAcquireEnd books the outcome.
func (t *pgTracer) TraceAcquireEnd(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	b := t.b
	if _, ok := ctx.(*fillContext); ok {
		return
	}
	if t.user != nil {
		t.user.TraceAcquireEnd(ctx, pool, data)
	}
	var waited time.Duration
	switch c := ctx.(type) {
	case *refusedContext:
		if c.b == b {
			return
		}
	case *waitingContext:
		if c.b == b {
			c.cancel()
			waited = time.Since(c.start)
		}
	}
	if data.Err != nil {
		b.givePermit()
		b.core.gate.Leave()
		if isClosedPgxPool(data.Err) {
			b.noticeClosed(ctx)
		} else if connectionLevel(data.Err) {
			b.core.observe(data.Err)
		}
		return
	}
	r := record(data.Conn.PgConn())
	b.mu.Lock()
	b.holding++
	b.events++
	b.mu.Unlock()
	b.core.evictor.Wake()
	now := r.at
	if now.IsZero() {
		now = time.Now()
	}
	b.core.acquired(&r.entry, waited, now)
}

// TraceRelease books a connection as returned. A connection that pgxpool is about to close keeps its place until it
// is closed, as in pgxpool.
func (t *pgTracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	b, conn := t.b, data.Conn
	r := record(conn.PgConn())
	if r == nil {
		return
	}
	now := time.Now()
	d, held := b.core.held.ReleaseAt(&r.entry, now)
	if !held {
		return // acquired with all that was idle
	}
	b.core.met.use.Record(d)
	lost := conn.IsClosed()
	doomed := lost || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I'
	b.mu.Lock()
	r.used, r.seen, r.at = now, now, time.Time{}
	b.holding--
	b.events++
	if doomed {
		r.owes, r.reason = true, poolkeeper.EvictedDead
	} else {
		b.permits--
		b.grantLocked()
	}
	b.mu.Unlock()
	b.core.gate.Leave()
	if !lost {
		b.core.observe(nil)
	}
}

// TraceQueryStart is wanted by pgx for something to be a tracer at all.
func (t *pgTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd passes on what says something about the server.
func (t *pgTracer) TraceQueryEnd(_ context.Context, c *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err == nil {
		return
	}
	lost := c.IsClosed() && !errors.Is(data.Err, context.Canceled) // pgx closes it when a caller gives up
	if lost || connectionLevel(data.Err) {
		t.b.core.observe(data.Err)
	}
}

// TraceConnectStart begins a dial.
func (t *pgTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	t.b.mu.Lock()
	t.b.dials++
	t.b.mu.Unlock()
	return context.WithValue(ctx, dialKey{}, &dialing{began: time.Now()})
}

// TraceConnectEnd ends it.
func (t *pgTracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	b := t.b
	d, ok := ctx.Value(dialKey{}).(*dialing)
	if !ok {
		return
	}
	b.core.met.dial.Record(time.Since(d.began))
	if data.Err != nil {
		b.core.met.dialErrors.Add(1)
		b.core.observe(data.Err)
	} else {
		b.core.met.dials.Add(1)
		b.record(data.Conn, d.sock)
	}
	b.mu.Lock()
	b.dials--
	b.grantLocked()
	b.mu.Unlock()
}

// afterConnect takes a new connection into the books.
func (b *pgBackend) afterConnect(ctx context.Context, c *pgx.Conn) error {
	if b.userAfterConnect != nil {
		if err := b.userAfterConnect(ctx, c); err != nil {
			return err
		}
	}
	r := record(c.PgConn())
	if r == nil { // the user's BeforeConnect has replaced the tracer
		r = b.record(c, c.PgConn().Conn())
	}
	now := time.Now()
	b.mu.Lock()
	r.born, r.used, r.seen = now, now, now
	b.all[r] = struct{}{}
	b.open++
	b.grantLocked()
	b.mu.Unlock()
	b.core.evictor.Wake()
	return nil
}

// beforeClose takes a connection out of the books.
func (b *pgBackend) beforeClose(c *pgx.Conn) {
	if b.userBeforeClose != nil {
		b.userBeforeClose(c)
	}
	r := record(c.PgConn())
	if r == nil {
		return
	}
	stopping := b.core.inPhase(phaseStopping) || b.core.inPhase(phaseStopped)
	b.mu.Lock()
	reason, owes := r.reason, r.owes
	r.owes = false
	delete(b.all, r)
	b.open--
	b.mu.Unlock()
	if reason == "" {
		reason = poolkeeper.EvictedDead // a failed ping, or Reset
		if stopping {
			reason = poolkeeper.EvictedClosed
		}
	}
	b.core.met.evicted(reason)
	b.core.evictor.Wake()
	if owes {
		done := c.PgConn().CleanupDone()
		// Owner: the backend. pgxpool closes the connection within 15 s whatever the server does; close waits for it.
		b.closes.run(func() {
			<-done
			b.givePermit()
		})
	}
}

// prepareConn looks at a connection before a caller gets it.
func (b *pgBackend) prepareConn(ctx context.Context, c *pgx.Conn) (bool, error) {
	switch ctx.(type) {
	case *sweepContext:
		return true, nil
	case *fillContext:
		return true, errNotNeeded
	}
	r := record(c.PgConn())
	now := r.at
	if now.IsZero() {
		now = time.Now()
	}
	if r.expired(&b.core.cfg, now) {
		b.mu.Lock()
		r.reason = poolkeeper.EvictedLifetime
		b.mu.Unlock()
		return false, nil
	}
	if b.userPrepare != nil {
		return b.userPrepare(ctx, c)
	}
	return true, nil
}

// shouldPing knows better than pgxpool how long a connection has been silent: a sweep makes it look fresh there.
func (b *pgBackend) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	r := record(p.Conn.PgConn())
	now := time.Now()
	b.mu.Lock()
	p.IdleDuration = now.Sub(r.seen)
	b.mu.Unlock()
	ping := p.IdleDuration > time.Second
	if b.userShouldPing != nil {
		ping = b.userShouldPing(ctx, p)
	}
	r.at = now
	if ping {
		r.at = time.Time{}
	}
	return ping
}
