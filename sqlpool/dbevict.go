package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Open, Peak, Sweep and Fill are for the evictor: eviction.Pool.

func (b *dbBackend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

func (b *dbBackend) Peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peak
	b.peak = b.inUse + b.waiting.Len()
	return p
}

// checkOutForSweep is the checkout by the pool itself.
func (b *dbBackend) checkOutForSweep(c *conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.state != stateIdle {
		return driver.ErrBadConn
	}
	b.idle--
	b.swept++
	b.coming++
	c.state = stateSwept
	return nil
}

// taken is an idle connection that a sweep has taken out.
type taken struct {
	lease *sql.Conn // nil: from what is prefilled
	w     *conn     // nil: from what is prefilled
	n     *native
}

// Sweep first takes out all idle connections for a moment, without I/O. database/sql keeps them
// last in, first out, so the stalest are at the bottom. Callers that come meanwhile queue. They get
// connections as Sweep gives them back, without a dial. Then Sweep closes and pings, at most
// order.Batch connections at a time.
func (b *dbBackend) Sweep(ctx context.Context, order eviction.Sweep) (next time.Time) {
	for again := true; again && ctx.Err() == nil; order.Surplus = 0 { // another pass is only for more pings
		idle := b.takeIdle(ctx)
		var drop, ask, rest []candidate[taken]
		drop, ask, rest, again = choose(b.base, idle, order, 0)
		for _, x := range rest { // the coldest first, so that the order stays
			b.giveBack(x.conn)
		}
		b.came(len(idle))
		for _, x := range drop {
			b.drop(x.conn, x.reason)
		}
		for _, x := range ask {
			if b.alive(ctx, x.conn) {
				b.giveBack(x.conn)
				continue
			}
			b.drop(x.conn, poolkeeper.EvictedDead)
		}
	}
	return b.nextDue(order)
}

// takeIdle takes out every idle connection.
func (b *dbBackend) takeIdle(ctx context.Context) []candidate[taken] {
	b.ownLimits()
	b.mu.Lock()
	bound := b.open
	out := make([]candidate[taken], 0, bound)
	for _, n := range b.prefilled {
		out = append(out, candidate[taken]{conn: taken{n: n}, mute: n.Pinger == nil})
	}
	b.swept += len(b.prefilled)
	b.coming += len(b.prefilled)
	b.prefilled = nil
	b.mu.Unlock()

	for range bound {
		lease, w := b.lease(ctx)
		if lease == nil {
			break
		}
		out = append(out, candidate[taken]{conn: taken{lease: lease, w: w, n: w.n}, mute: w.n.Pinger == nil})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range out {
		out[i].times = out[i].conn.n.times
	}
	return out
}

// lease takes one idle connection out of database/sql, or returns nil if there is none.
func (b *dbBackend) lease(ctx context.Context) (lease *sql.Conn, w *conn) {
	ctx, cancel := context.WithTimeout(ctx, hangUpLimit) // it would wait if a caller had set a limit on the handle
	defer cancel()
	lease, err := b.db.Conn(&sweepContext{ctx}) //nolint:contextcheck // it is ctx, marked
	if err != nil {
		return nil, nil
	}
	_ = lease.Raw(func(dc any) error {
		if x, ok := dc.(wrapper); ok {
			w = x.base()
		}
		return nil
	})
	return lease, w
}

// came says that n connections that were about to be given back have been.
func (b *dbBackend) came(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.coming -= n
	b.dialLocked()
}

func (b *dbBackend) giveBack(x taken) {
	if x.lease != nil {
		_ = x.lease.Close() // a check-in
		return
	}
	b.mu.Lock()
	b.swept--
	if !b.closed {
		b.deliverLocked(x.n)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	_ = b.discard(x.n, poolkeeper.EvictedClosed, hangUpLimit)
}

func (b *dbBackend) drop(x taken, reason string) {
	if x.lease == nil {
		b.mu.Lock()
		b.swept--
		b.mu.Unlock()
		_ = b.discard(x.n, reason, hangUpLimit)
		return
	}
	_ = x.lease.Raw(func(any) error {
		b.mu.Lock()
		x.w.reason = reason
		b.mu.Unlock()
		return driver.ErrBadConn // database/sql closes it
	})
}

// alive pings a connection that is out of the pool.
func (b *dbBackend) alive(ctx context.Context, x taken) bool {
	ping, cancel := context.WithTimeout(ctx, min(pingLimit, b.base.cfg().DialTimeout))
	defer cancel()
	asked := time.Now()
	var err error
	if caught := guard.Call(func() { // a driver that exits must not end the evictor
		if x.lease != nil {
			err = b.base.guarded("the driver's Ping", func() error { return x.lease.PingContext(ping) })
		} else {
			err = x.n.ping(ping, b.base)
		}
	}); caught != nil {
		err = caught
	}
	if err != nil && ctx.Err() == nil {
		b.base.noteDiedInUse(err, time.Now()) // the others are suspect, as if it had been in use
		return false
	}
	if err != nil { // the pool stops, and nothing was learnt
		return true
	}
	b.base.link.Saw(time.Since(asked))
	b.mu.Lock()
	defer b.mu.Unlock()
	x.n.seen = time.Now()
	return true
}

func (b *dbBackend) nextDue(o eviction.Sweep) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := make([]eviction.Conn, 0, len(b.all))
	for n := range b.all {
		open = append(open, n.forEviction(n.Pinger == nil))
	}
	return o.Next(open)
}

// flush sweeps only for what is stale. One at a time is enough: a later one finds what an earlier
// one has missed.
func (b *dbBackend) flush() {
	if !b.flushing.CompareAndSwap(false, true) {
		return
	}
	b.pending.Go(func() {
		b.flushing.Store(false)
		b.mu.Lock()
		surplus := max(b.open-b.max, 0) // the limit was lowered
		b.mu.Unlock()
		b.Sweep(b.life, eviction.Sweep{Now: time.Now(), Batch: 1, Surplus: surplus}) // Stats tells what it closes
	})
}

// withIdle runs f on an idle connection, which is closed if f returns false. It reports false if
// none is idle, or f did.
func (b *dbBackend) withIdle(ctx context.Context, f func(context.Context, *native) bool) bool {
	x, ok := b.takeOne(ctx)
	if !ok {
		return false
	}
	alive := f(ctx, x.n)
	if alive {
		b.mu.Lock()
		x.n.seen = time.Now()
		b.mu.Unlock()
		b.giveBack(x)
	} else {
		b.drop(x, poolkeeper.EvictedDead)
	}
	b.came(1)
	return alive
}

// takeOne takes out one idle connection. It reports false if there is none.
func (b *dbBackend) takeOne(ctx context.Context) (taken, bool) {
	b.mu.Lock()
	if last := len(b.prefilled) - 1; last >= 0 && !b.closed {
		n := b.prefilled[last]
		b.prefilled = b.prefilled[:last]
		b.swept++
		b.coming++
		b.mu.Unlock()
		return taken{n: n}, true
	}
	b.mu.Unlock()
	lease, w := b.lease(ctx)
	if lease == nil {
		return taken{}, false
	}
	return taken{lease: lease, w: w, n: w.n}, true
}

// reclaim takes connections away from their holders. It closes their sockets, so that the holder's
// next use fails, and frees their places at once. database/sql returns the closed connection when
// its holder is done with it, or never.
func (b *dbBackend) reclaim(now time.Time, limit time.Duration) (taken []poolkeeper.Holder, out int) {
	type victim struct {
		n   *native
		who func() poolkeeper.Holder
	}
	var victims []victim
	b.mu.Lock()
	for n := range b.all {
		if n.in == nil || n.in.state != stateInUse {
			continue
		}
		if n.sock == nil {
			if b.base.held.HeldFor(&n.entry, now) > limit {
				out++
			}
			continue
		}
		who, ok := b.base.held.Seize(&n.entry, now, limit)
		if !ok {
			continue
		}
		victims = append(victims, victim{n, who})
		n.in.state = stateReclaimed
		b.inUse--
		b.open--
		delete(b.all, n)
	}
	b.dialLocked()
	b.mu.Unlock()
	for _, v := range victims {
		b.base.cut(v.n.sock) // unblocks a caller that reads or writes
		taken = append(taken, v.who())
		b.pending.End() // Stop does not wait until the holder returns it
	}
	return taken, out
}

// ownLimits takes back the limit that a caller has set on the handle. At that limit callers would
// wait inside database/sql, where the pool cannot see them. The pool itself would wait for idle
// connections that it is to sweep.
func (b *dbBackend) ownLimits() {
	if n := b.db.Stats().MaxOpenConnections; n > 0 {
		b.db.SetMaxOpenConns(0)
		b.base.events.Emit(event.Event{
			Kind: event.Misuse, Level: slog.LevelWarn,
			Text:  "SetMaxOpenConns on a managed *sql.DB has been undone; use MaxOpen of its configuration",
			Attrs: []slog.Attr{slog.Int("value", n), slog.Int("max_open", b.base.cfg().MaxOpen)},
		})
	}
}
