package sqlpool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
)

// errNotNeeded ends a Fill that was given a connection that had just become idle.
var errNotNeeded = errors.New("sqlpool: a connection is idle already")

type fillKey struct{}

// fillContext is that of an acquisition whose only purpose is to have pgxpool open a connection.
type fillContext struct {
	context.Context
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

func (b *pgBackend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

func (b *pgBackend) Peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peak
	b.peak = b.permits + b.waiting.n
	return p
}

// Fill opens connections one after the other, as long as fewer than n are idle.
func (b *pgBackend) Fill(ctx context.Context, n int) (int, error) {
	for opened := 0; ; {
		b.mu.Lock()
		enough := b.open-b.permits >= n || max(b.open, b.permits)+b.dialing >= b.max
		b.mu.Unlock()
		if enough || ctx.Err() != nil {
			return opened, ctx.Err()
		}
		switch err := b.openIdle(ctx); {
		case errors.Is(err, errNotNeeded): // look again
		case err != nil:
			return opened, err
		default:
			opened++
		}
	}
}

// openIdle makes pgxpool open a connection for nobody. It opens one only if an acquisition finds nothing idle, so what
// is idle is taken out until the dial has begun. Callers queue for that moment.
func (b *pgBackend) openIdle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.core.cfg.DialTimeout)
	defer cancel()
	fc := &fillContext{Context: ctx, began: make(chan struct{})}
	resume := b.pause()
	idle := b.pool.AcquireAllIdle(&sweepContext{ctx})
	type result struct {
		conn *pgxpool.Conn
		err  error
	}
	done := make(chan result, 1)
	// Owner: this call, which waits for it.
	go func() {
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

func releaseAll(conns []*pgxpool.Conn) {
	for _, c := range slices.Backward(conns) { // pgxpool gives out the one released last
		c.Release()
	}
}

// pause makes new callers queue until the returned function is called.
func (b *pgBackend) pause() (resume func()) {
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

// pgIdle is an idle connection that a sweep has taken out.
type pgIdle struct {
	c          *pgxpool.Conn
	r          *pgRecord
	used, seen time.Time
	reason     string
}

// Sweep takes all idle connections out for a moment without I/O, decides, and gives back the rest at once. Only then
// come the closes and pings, of at most order.Batch connections at a time.
func (b *pgBackend) Sweep(ctx context.Context, order eviction.Sweep) (eviction.Swept, error) {
	b.reconcile()
	var out eviction.Swept
	for {
		resume := b.pause()
		idle := b.takeIdle(ctx)
		drop, ask, rest := choosePG(idle, order, &out)
		for _, x := range rest {
			x.c.Release()
		}
		resume()
		for _, x := range drop {
			b.drop(x, x.reason)
		}
		for _, x := range ask {
			if b.alive(ctx, x) {
				x.c.Release()
			} else {
				out.Dead++
				b.drop(x, poolkeeper.EvictedDead)
			}
		}
		if len(ask) < order.Batch || ctx.Err() != nil {
			out.Next = b.nextDue(order)
			return out, nil
		}
		order.Surplus = 0 // done in the first round; another is only for more pings
	}
}

// takeIdle returns what is idle, the coldest first.
func (b *pgBackend) takeIdle(ctx context.Context) []pgIdle {
	conns := b.pool.AcquireAllIdle(&sweepContext{ctx})
	out := make([]pgIdle, len(conns))
	b.mu.Lock()
	for i, c := range conns {
		r := record(c.Conn().PgConn())
		out[i] = pgIdle{c: c, r: r, used: r.used, seen: r.seen}
	}
	b.mu.Unlock()
	slices.SortFunc(out, func(x, y pgIdle) int { return x.used.Compare(y.used) })
	return out
}

func choosePG(idle []pgIdle, o eviction.Sweep, out *eviction.Swept) (drop, ask, rest []pgIdle) {
	var live []pgIdle
	for _, x := range idle {
		if o.Expired(x.r.born, x.r.draw) {
			out.Lifetime++
			x.reason = poolkeeper.EvictedLifetime
			drop = append(drop, x)
		} else {
			live = append(live, x)
		}
	}
	surplus := min(o.Surplus-len(drop), len(live)-o.MinIdle)
	for i, x := range live {
		switch {
		case i < surplus:
			out.Idle++
			x.reason = poolkeeper.EvictedIdle
			drop = append(drop, x)
		case o.KeepAlive > 0 && o.Now.Sub(x.seen) >= o.KeepAlive && len(ask) < o.Batch:
			ask = append(ask, x)
		default:
			rest = append(rest, x)
		}
	}
	return drop, ask, rest
}

func (b *pgBackend) drop(x pgIdle, reason string) {
	b.mu.Lock()
	x.r.reason = reason
	b.mu.Unlock()
	hangUpPG(x.c.Conn())
	x.c.Release() // pgxpool sees that it is closed
}

func (b *pgBackend) alive(ctx context.Context, x pgIdle) bool {
	ctx, cancel := context.WithTimeout(ctx, min(pingLimit, b.core.cfg.DialTimeout))
	defer cancel()
	if x.c.Ping(ctx) != nil {
		return false
	}
	b.mu.Lock()
	x.r.seen = time.Now()
	b.mu.Unlock()
	return true
}

// nextDue is when an open connection next reaches its lifetime or its silence.
func (b *pgBackend) nextDue(o eviction.Sweep) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for r := range b.all {
		if t := o.Expiry(r.born, r.draw); !t.IsZero() && t.After(o.Now) {
			sooner(t)
		}
		if o.KeepAlive > 0 {
			sooner(r.seen.Add(o.KeepAlive))
		}
	}
	return next
}
