package sqlpool

import (
	"context"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/socket"
)

// peekAfter is the silence after which a connection is looked at before it is used: under load
// nothing is gained.
const peekAfter = time.Millisecond

// pingAfter is the silence after which it is pinged before it is used, as by pgxpool.
const pingAfter = time.Second

// beforeConnect is where every dial of pgxpool begins. What pgxpool was made with may be outdated
// by a Reload.
func (b *pgxBackend) beforeConnect(ctx context.Context, conn *pgx.ConnConfig) (err error) {
	b.dialBegins(ctx)
	defer func() {
		if err != nil { // else the tracer or afterConnect notes the end
			b.dialEnds(ctx)
		}
	}()
	if f, ok := ctx.Value(fillKey{}).(*fillContext); ok {
		f.begin()
	}
	// First: what is asked for below may be outdated by the time it is used.
	generation := b.base.recovery.generation.Load()
	cfg, to := b.base.cfg(), b.target.Load()
	*conn = *to.conn.Copy()
	limit, err := b.personalize(ctx, to, conn, cfg)
	if err != nil { // pgx does not begin
		b.base.metrics.dialErrors.Add(1)
		b.base.metrics.failed(err)
		return err
	}
	conn.Tracer = &pgxDialTracer{QueryTracer: conn.Tracer, b: b, book: to.book, generation: generation, limit: limit}
	return nil
}

// afterConnect takes a new connection into the books.
func (b *pgxBackend) afterConnect(ctx context.Context, c *pgx.Conn) error {
	defer b.dialEnds(ctx)
	if user := b.target.Load().native.AfterConnect; user != nil {
		var err error
		if panicked := b.base.callback("AfterConnect", func() { err = user(ctx, c) }); panicked != nil {
			return panicked
		}
		if err != nil {
			return err
		}
	}
	r := connOf(c.PgConn())
	now := time.Now()
	b.mu.Lock()
	r.born, r.used, r.seen = now, now, now
	b.all[r] = struct{}{}
	b.open++
	b.grantLocked()
	b.mu.Unlock()
	b.base.evictor.Wake()
	return nil
}

// beforeClose takes a connection out of the books.
func (b *pgxBackend) beforeClose(c *pgx.Conn) {
	if user := b.target.Load().native.BeforeClose; user != nil {
		_ = b.base.callback("BeforeClose", func() { user(c) })
	}
	r := connOf(c.PgConn())
	if r == nil {
		return
	}
	stopping := b.base.state.At() >= life.Stopping
	b.mu.Lock()
	reason, owes, reclaimed := r.reason, r.owes, r.reclaimed
	r.owes = false
	delete(b.all, r)
	if !reclaimed && !r.discounted {
		b.open--
	}
	b.mu.Unlock()
	if reclaimed {
		return // it is out of the books, and its socket is closed
	}
	if reason == "" {
		reason = poolkeeper.EvictedDead // a failed ping, or Reset
		if stopping {
			reason = poolkeeper.EvictedClosed
		}
	}
	b.base.evicted(reason)
	b.base.evictor.Wake()
	if owes || c.IsClosed() {
		done := c.PgConn().CleanupDone()
		// Owner: the backend. It ends within CloseGrace, or without one when pgx has closed the
		// connection, within 15 s whatever the server does; close waits for it.
		b.pending.Go(func() {
			b.endCleanup(r, done)
			if owes {
				b.givePermit()
			}
		})
	}
}

// endCleanup waits until pgx has cleaned up behind a query that was given up, up to CloseGrace:
// then the socket is closed under it.
func (b *pgxBackend) endCleanup(r *pgxConn, done <-chan struct{}) {
	if grace := b.base.cfg().CloseGrace; grace > 0 {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-done:
			return
		case <-t.C:
			b.base.cut(r.sock)
		}
	}
	<-done
}

// prepareConn looks at a connection before a caller gets it.
func (b *pgxBackend) prepareConn(ctx context.Context, c *pgx.Conn) (bool, error) {
	switch ctx.(type) {
	case *sweepContext:
		return true, nil
	}
	if b.target.Load().native.ShouldPing != nil {
		b.pingBegins(ctx, false)
	}
	r := connOf(c.PgConn())
	if err := r.hookErr; err != nil {
		r.hookErr = nil
		return false, err
	}
	isNew := !r.met
	r.met = true
	switch ctx.(type) {
	case *fillContext:
		return true, errNotNeeded
	case *acquisition, *waitingContext:
	default:
		r.allIdle = true // only AcquireAllIdle has a context that is not the tracer's
	}
	now := r.at
	if now.IsZero() {
		now = time.Now()
	}
	fit, err := b.fit(ctx, c, r, now)
	if fit || err != nil {
		return fit, err
	}
	b.bound(ctx, now)
	if isNew {
		if err := b.noteDiscarded(ctx, r); err != nil {
			return false, err
		}
	}
	if err := ctx.Err(); err != nil {
		return false, err // pgxpool would try, and lose, one idle connection after the other
	}
	return false, b.exchange(ctx, r, now) // the caller is in for a new connection
}

// noteDiscarded notes that a new connection is thrown away.
func (b *pgxBackend) noteDiscarded(ctx context.Context, r *pgxConn) error {
	w := b.waitingOf(ctx)
	if w == nil {
		return nil
	}
	b.mu.Lock()
	reason := r.reason
	b.mu.Unlock()
	if reason == "" {
		return nil // the user's PrepareConn refused it
	}
	return w.fresh.noteAnother(ctx, b.base, b, reason, w.start)
}

// fit says whether a caller may have the connection.
func (b *pgxBackend) fit(ctx context.Context, c *pgx.Conn, r *pgxConn, now time.Time) (bool, error) {
	reason := b.base.stale(&r.times, now)
	if reason == "" && !b.answersPing(ctx, c, r, now) {
		reason = poolkeeper.EvictedDead
	}
	if reason != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		r.reason = reason
		return false, nil
	}
	if user := b.target.Load().prepare; user != nil {
		b.bound(ctx, now)
		ok, err := false, error(nil)
		caught := guard.Catch(func() { ok, err = user(ctx, c) })
		if panicked := b.base.events.Panicked("PrepareConn", caught); panicked != nil {
			return false, panicked // pgxpool would lose the connection's place for ever
		}
		return ok, err
	}
	return true, nil
}

// hooked says whether hooks of the user's see the contexts of acquisitions.
func (b *pgxBackend) hooked() bool {
	to := b.target.Load()
	return to.prepare != nil || to.native.ShouldPing != nil
}

// shouldPing leaves pings to prepareConn, unless the user has set ShouldPing. prepareConn draws
// conclusions from pings that fail. The user's ShouldPing gets the time that the connection has
// really been silent, because a sweep makes it look fresh to pgxpool.
func (b *pgxBackend) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	r := connOf(p.Conn.PgConn())
	now := time.Now()
	r.at = now
	user := b.target.Load().native.ShouldPing
	if user == nil {
		return false
	}
	b.mu.Lock()
	p.IdleDuration = now.Sub(r.seen)
	b.mu.Unlock()
	ping := false
	caught := guard.Catch(func() { ping = user(ctx, p) }) // pgxpool would lose its place
	r.hookErr = b.base.events.Panicked("ShouldPing", caught)
	if ping {
		b.bound(ctx, now)
		b.pingBegins(ctx, true)
		r.at = time.Time{}
	}
	return ping
}

// errorResponse begins the only message with which PostgreSQL ends a session of its own accord. On
// an idle connection nothing else but notices, notifications and changed settings can come in. No
// TLS record begins with this byte.
const errorResponse = 'E'

// answersPing looks at a silent connection and pings it where that is needed. It pings if the
// connection is suspect, was silent for long, or has received something: under TLS that may be the
// server's last message before it closed. It reports false if the connection must not be used.
func (b *pgxBackend) answersPing(ctx context.Context, c *pgx.Conn, r *pgxConn, now time.Time) bool {
	cfg := b.base.cfg()
	spoken := false
	if !cfg.DisablePeek && (now.Sub(r.seen) >= peekAfter || b.base.lostLately(now)) {
		transport, _ := r.sock.(syscall.Conn)
		state, next := socket.Peek(transport)
		spoken = state == socket.Unread
		// A server that ends a session says why before it hangs up.
		if state == socket.Closed || spoken && next == errorResponse {
			return false
		}
	}
	suspect := b.base.suspect(&r.times)
	patience := b.base.suspectLimit()
	switch {
	case suspect:
	case spoken:
		patience = b.base.link.Limit(0)
	case now.Sub(r.seen) > pingAfter && b.target.Load().native.ShouldPing == nil:
		patience = b.pingTimeout()
	default:
		return true
	}
	b.bound(ctx, now)
	ping, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := pgxPing(ping, c)
	switch {
	case err == nil:
		b.base.link.Saw(time.Since(now))
		b.mu.Lock()
		defer b.mu.Unlock()
		r.seen = time.Now()
	case !suspect && ctx.Err() == nil:
		b.base.noteDiedInUse(err, time.Now()) // the others are suspect, as if it had been in use
	case !suspect:
		b.base.noteDiedInUse(ctx.Err(), time.Now())
	case ctx.Err() == nil: // else the caller had no time left
		b.base.noteSilent(b)
	}
	return err == nil
}

// pingTimeout bounds pings of connections against which nothing speaks but their silence.
func (b *pgxBackend) pingTimeout() time.Duration {
	if user := b.target.Load().native.PingTimeout; user > 0 {
		return user
	}
	return min(pingLimit, b.base.cfg().DialTimeout)
}

// afterRelease runs the user's AfterRelease. Meanwhile pgxpool gives the connection to no other
// caller.
func (b *pgxBackend) afterRelease(c *pgx.Conn) bool {
	keep := true
	if user := b.target.Load().native.AfterRelease; user != nil {
		if b.base.callback("AfterRelease", func() { keep = user(c) }) != nil {
			keep = false
		}
	}
	r := connOf(c.PgConn())
	if r == nil {
		return keep
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.releasing {
		return keep
	}
	r.releasing = false
	b.holding--
	b.events++
	if !keep {
		r.owes, r.reason = true, poolkeeper.EvictedDead
		return false
	}
	now := time.Now()
	r.used, r.seen = now, now
	if b.retireLocked(r, now) {
		return false
	}
	acquired := b.pool.Stat().AcquiredConns()
	// Owner: the backend. It ends within a millisecond; close waits for it.
	b.pending.Go(func() {
		retry.Briefly(b.life, func() bool { return b.pool.Stat().AcquiredConns() < acquired })
		b.givePermit()
	})
	return true
}
