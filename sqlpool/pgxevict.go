package sqlpool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// firstFlush and lastFlush are between two sweeps for what is stale, as long as some was spared
// because of callers.
const (
	firstFlush = 10 * time.Millisecond
	lastFlush  = time.Second
)

// errNotNeeded ends a Fill that was given a connection that had just become idle.
var errNotNeeded = errors.New("sqlpool: a connection is idle already")

type fillKey struct{}

// fillContext is that of an acquisition whose only purpose is to have pgxpool open a connection.
type fillContext struct {
	context.Context //nolint:containedctx // it is a context

	once  sync.Once
	began chan struct{} // closed when the dial has begun
}

// Value lets the dial find the fill it belongs to.
func (c *fillContext) Value(key any) any {
	if _, ok := key.(fillKey); ok {
		return c
	}
	return c.Context.Value(key)
}

func (c *fillContext) begin() { c.once.Do(func() { close(c.began) }) }

// Open, Peak, Sweep and Fill are for the evictor: eviction.Pool.

func (b *pgxBackend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

func (b *pgxBackend) Peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peak
	b.peak = b.permits + b.waiting.Len()
	return p
}

// Fill opens connections one after the other, as long as fewer than n are idle.
func (b *pgxBackend) Fill(ctx context.Context, n int) error {
	const looks = 3 // at connections that others return meanwhile
	if d := b.base.down(); d != nil {
		return d
	}
	for found := 0; ; {
		b.mu.Lock()
		enough := b.held || b.open-b.permits >= n || max(b.open, b.permits)+b.dials >= b.roomLocked()
		b.mu.Unlock()
		if enough || !b.base.pace.Await(ctx) {
			return ctx.Err()
		}
		switch err := b.openIdle(ctx); {
		case errors.Is(err, errNotNeeded):
			if found++; found == looks {
				return nil
			}
		case fault.PoolClosed(err):
			b.noticeClosed(ctx)
			return err
		case err != nil:
			return err
		}
	}
}

// openIdle makes pgxpool open a connection that no caller has asked for. pgxpool opens one only if
// an acquisition finds nothing idle. So openIdle takes out the idle connections until the dial has
// begun. Callers queue for that moment.
func (b *pgxBackend) openIdle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.base.cfg().DialTimeout)
	defer cancel()
	fc := &fillContext{Context: ctx, began: make(chan struct{})}
	resume := b.standStill()
	b.awaitPermitted(ctx)
	if !b.hasRoom() { // since Fill looked
		resume()
		return errNotNeeded
	}
	idle := b.pool.AcquireAllIdle(&sweepContext{ctx}) //nolint:contextcheck // it is ctx, marked
	type result struct {
		conn *pgxpool.Conn
		err  error
	}
	done := make(chan result, 1)
	// Owner: this call, which waits for it.
	go func() { //nolint:contextcheck // fc is ctx, marked
		c, err := b.pool.Acquire(fc)
		done <- result{c, err}
	}()
	var r result
	select {
	case <-fc.began:
		releaseAll(idle)
		resume()
		r = <-done
	case r = <-done:
		releaseAll(idle)
		resume()
	}
	if r.err != nil {
		return r.err
	}
	r.conn.Release()
	return nil
}

// hasRoom reports whether pgxpool would dial at once for one more acquisition, with all that is
// idle taken out: in a full pool it would wait, and callers with it. A caller that has its permit,
// and no connection yet, dials then too. The caller of a Pause waits for a dial to be over.
func (b *pgxBackend) hasRoom() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.held && max(b.open, b.permits)+b.dials < b.roomLocked() && b.open+b.dials+b.unservedLocked() < b.roomLocked()
}

func releaseAll(conns []*pgxpool.Conn) {
	for _, c := range slices.Backward(conns) { // pgxpool gives out the one released last
		c.Release()
	}
}

// standStill makes new callers queue for a moment, until the returned function is called.
func (b *pgxBackend) standStill() (goOn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.paused--
		b.grantLocked()
	}
}

// Sweep takes all idle connections out for a moment without I/O, decides, and gives back the rest
// at once. Only then come the closes and pings, of at most order.Batch connections at a time.
func (b *pgxBackend) Sweep(ctx context.Context, order eviction.Sweep) (next time.Time) {
	b.sweep(ctx, order)
	return b.nextDue(order)
}

// sweep reports how many it has spared because of callers.
func (b *pgxBackend) sweep(ctx context.Context, order eviction.Sweep) (spared int) {
	b.reconcile()
	for again := true; again && ctx.Err() == nil; order.Surplus = 0 { // another pass is only for more pings
		resume := b.standStill()
		b.awaitPermitted(ctx)
		var drop, ask, rest []candidate[*pgxpool.Conn]
		drop, ask, rest, again = choose(b.base, b.takeIdle(ctx), order, 0)
		drop, spare := b.discount(drop, len(rest))
		spared += len(spare)
		for _, x := range slices.Concat(spare, rest) { // the coldest first: pgxpool gives out the one released last
			x.conn.Release()
		}
		resume()
		for _, x := range drop {
			b.drop(ctx, x.conn, x.reason)
		}
		for _, x := range ask {
			if b.alive(ctx, x.conn) {
				x.conn.Release()
				continue
			}
			b.drop(ctx, x.conn, poolkeeper.EvictedDead)
		}
	}
	return spared
}

func (b *pgxBackend) takeIdle(ctx context.Context) []candidate[*pgxpool.Conn] {
	conns := b.pool.AcquireAllIdle(&sweepContext{ctx}) //nolint:contextcheck // it is ctx, marked
	out := make([]candidate[*pgxpool.Conn], len(conns))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range conns {
		out[i] = candidate[*pgxpool.Conn]{times: connOf(c.Conn().PgConn()).times, conn: c}
	}
	return out
}

// awaitPermitted waits until callers with permits have their connections. Usually they have, or
// need only microseconds. It does not wait for callers that are pinging.
func (b *pgxBackend) awaitPermitted(ctx context.Context) {
	retry.Briefly(ctx, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.unservedLocked() == 0
	})
}

// unservedLocked is how many have permits and neither a connection nor a dial under way.
func (b *pgxBackend) unservedLocked() int { return max(b.permits-b.holding-b.dials, 0) }

// discount stops counting connections that are about to be closed as ones that callers may find. If
// the stay that are left are too few for the callers with permits, it spares some. A caller that
// finds no idle connection dials without asking. A caller that finds a stale one asks first (see
// exchange).
func (b *pgxBackend) discount(drop []candidate[*pgxpool.Conn], stay int) (gone, spare []candidate[*pgxpool.Conn]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(drop) - min(max(b.unservedLocked()-stay, 0), len(drop))
	for _, x := range drop[:n] {
		connOf(x.conn.Conn().PgConn()).discounted = true
	}
	b.open -= n
	return drop[:n], drop[n:]
}

func (b *pgxBackend) drop(ctx context.Context, c *pgxpool.Conn, reason string) {
	b.mu.Lock()
	connOf(c.Conn().PgConn()).reason = reason
	b.mu.Unlock()
	b.hangUp(ctx, c.Conn())
	c.Release() // pgxpool sees that it is closed
}

func (b *pgxBackend) alive(ctx context.Context, c *pgxpool.Conn) bool {
	ping, cancel := context.WithTimeout(ctx, min(pingLimit, b.base.cfg().DialTimeout))
	defer cancel()
	asked := time.Now()
	if err := b.base.events.Guarded("a hook, in a ping,", func() error { return pgxPing(ping, c.Conn()) }); err != nil {
		if ctx.Err() == nil {
			b.base.noteDiedInUse(err, time.Now()) // the others are suspect, as if it had been in use
		}
		return false // if ctx has ended, pgx has closed the connection too
	}
	b.base.link.Saw(time.Since(asked))
	b.mu.Lock()
	defer b.mu.Unlock()
	connOf(c.Conn().PgConn()).seen = time.Now()
	return true
}

func (b *pgxBackend) nextDue(o eviction.Sweep) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := make([]eviction.Conn, 0, len(b.all))
	for r := range b.all {
		open = append(open, r.forEviction(false))
	}
	return o.Next(open)
}

// flush sweeps only for what is stale. One at a time is enough: a later one finds what an earlier
// one has missed.
func (b *pgxBackend) flush() {
	if !b.flushing.CompareAndSwap(false, true) {
		return
	}
	b.pending.Go(func() {
		b.flushing.Store(false)
		for pause := firstFlush; ; pause = min(2*pause, lastFlush) {
			b.mu.Lock()
			surplus := max(b.open-b.max, 0) // the limit was lowered
			b.mu.Unlock()
			// Stats counts what it closes. Callers may not come for the connections that it spares,
			// so it tries again.
			spared := b.sweep(b.life, eviction.Sweep{Now: time.Now(), Batch: 1, Surplus: surplus})
			if spared == 0 || !retry.Sleep(b.life, pause) {
				return
			}
		}
	})
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
