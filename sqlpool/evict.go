package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
)

const (
	pingLimit  = 2 * time.Second       // a connection silent for longer than this when pinged is dead
	rescueFrom = 20 * time.Microsecond // first pause of a rescue
	rescueTo   = 5 * time.Millisecond  // last
)

// sweepContext marks a checkout by the pool itself: of an idle connection or of none. It is compared by type, which
// costs other checkouts next to nothing.
type sweepContext struct{ context.Context }

func (c Config) policy() eviction.Policy {
	return eviction.Policy{
		MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter,
		KeepAlive: c.KeepAlive, Interval: c.EvictionInterval,
	}
}

// Open, Peak, Sweep and Fill are for the evictor: eviction.Pool.

func (s *store) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *store) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peak
	s.peak = s.inUse + s.waiting.n
	return p
}

// Fill opens connections into the stash, one after the other, as long as fewer than n are idle.
func (s *store) Fill(ctx context.Context, n int) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for opened := 0; ; opened++ {
		s.mu.Lock()
		enough := s.closed || s.idle+s.swept+len(s.stash) >= n || s.open+s.dialing >= s.max
		if !enough {
			s.dialing++
		}
		s.mu.Unlock()
		if enough || ctx.Err() != nil {
			if !enough {
				s.undial()
			}
			return opened, ctx.Err()
		}
		c, err := s.connectWithin(ctx)
		s.filled(c, err)
		if err != nil {
			return opened, err
		}
	}
}

func (s *store) undial() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing--
	s.dialLocked()
}

func (s *store) connectWithin(ctx context.Context) (*native, error) {
	ctx, cancel := context.WithTimeout(ctx, s.core.cfg.DialTimeout)
	defer cancel()
	return s.connect(ctx)
}

// filled books the outcome of a dial that nobody waited for: its failure is nobody's.
func (s *store) filled(n *native, err error) {
	if err == nil {
		s.dialled(n, nil)
		return
	}
	s.undial()
}

// checkOutForSweep is the checkout by the pool itself.
func (s *store) checkOutForSweep(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state != stateIdle {
		return driver.ErrBadConn
	}
	s.idle--
	s.swept++
	s.coming++
	c.state = stateSwept
	return nil
}

// swept is an idle connection that a sweep has taken out.
type swept struct {
	c    *sql.Conn // nil: from the stash
	w    *conn     // nil: from the stash
	n    *native
	used time.Time
	seen time.Time
}

// Sweep takes all idle connections out for a moment without I/O: database/sql keeps them last in, first out, and those
// that matter are at the bottom. Callers who come by meanwhile queue, and are served as they are given back, with no
// dial. Only then come the closes and pings, of at most s.Batch connections at a time.
func (s *store) Sweep(ctx context.Context, order eviction.Sweep) (eviction.Swept, error) {
	var out eviction.Swept
	for {
		idle := s.takeIdle(ctx)
		drop, ask := s.choose(idle, order, &out)
		err := s.giveBackBut(idle, drop, ask)
		for _, x := range drop {
			s.drop(x.swept, x.reason)
		}
		for _, x := range ask {
			if s.alive(ctx, x) {
				s.giveBack(x)
			} else {
				out.Dead++
				s.drop(x, poolkeeper.EvictedDead)
			}
		}
		if err != nil || len(ask) < order.Batch || ctx.Err() != nil {
			out.Next = s.nextDue(order)
			return out, err
		}
		order.Surplus = 0 // done in the first round; another is only for more pings
	}
}

// takeIdle takes out every idle connection, the one used last first.
func (s *store) takeIdle(ctx context.Context) []swept {
	s.mu.Lock()
	bound := s.open
	var out []swept
	for _, n := range slices.Backward(s.stash) {
		out = append(out, swept{n: n})
	}
	s.swept += len(s.stash)
	s.coming += len(s.stash)
	s.stash = nil
	s.mu.Unlock()

	for range bound {
		c, err := s.db.Conn(&sweepContext{ctx})
		if err != nil {
			break // nothing more is idle, or the handle is closed
		}
		x := swept{c: c}
		_ = c.Raw(func(dc any) error {
			if w, ok := dc.(wrapper); ok {
				x.w, x.n = w.base(), w.base().n
			}
			return nil
		})
		out = append(out, x)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range out {
		out[i].used, out[i].seen = out[i].n.used, out[i].n.seen
	}
	return out
}

// dropped is an idle connection that a sweep will close.
type dropped struct {
	swept
	reason string
}

// choose decides, the coldest first, whom to close and whom to ping.
func (s *store) choose(idle []swept, o eviction.Sweep, out *eviction.Swept) (drop []dropped, ask []swept) {
	slices.SortFunc(idle, func(a, b swept) int { return a.used.Compare(b.used) })
	var rest []swept
	for _, x := range idle {
		if o.Expired(x.n.born, x.n.draw) {
			out.Lifetime++
			drop = append(drop, dropped{x, poolkeeper.EvictedLifetime})
		} else {
			rest = append(rest, x)
		}
	}
	surplus := min(o.Surplus-len(drop), len(rest)-o.MinIdle)
	for i, x := range rest {
		switch {
		case i < surplus:
			out.Idle++
			drop = append(drop, dropped{x, poolkeeper.EvictedIdle})
		case o.KeepAlive > 0 && x.n.pinger != nil && o.Now.Sub(x.seen) >= o.KeepAlive && len(ask) < o.Batch:
			ask = append(ask, x)
		}
	}
	return drop, ask
}

// giveBackBut gives back what is neither to be closed nor to be pinged, the coldest first, so that the order stays.
func (s *store) giveBackBut(idle []swept, drop []dropped, ask []swept) error {
	kept := make(map[*native]bool, len(drop)+len(ask))
	for _, x := range drop {
		kept[x.n] = true
	}
	for _, x := range ask {
		kept[x.n] = true
	}
	for _, x := range idle {
		if !kept[x.n] {
			s.giveBack(x)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming -= len(idle)
	s.dialLocked()
	return nil
}

func (s *store) giveBack(x swept) {
	if x.c != nil {
		_ = x.c.Close() // a check-in
		return
	}
	s.mu.Lock()
	s.swept--
	if !s.closed {
		s.deliverLocked(x.n)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	_ = s.discard(x.n, poolkeeper.EvictedClosed)
}

func (s *store) drop(x swept, reason string) {
	if x.c == nil {
		s.mu.Lock()
		s.swept--
		s.mu.Unlock()
		_ = s.discard(x.n, reason)
		return
	}
	_ = x.c.Raw(func(any) error {
		s.mu.Lock()
		x.w.reason = reason
		s.mu.Unlock()
		return driver.ErrBadConn // database/sql closes it
	})
}

// alive pings a connection that is out of the pool.
func (s *store) alive(ctx context.Context, x swept) bool {
	ctx, cancel := context.WithTimeout(ctx, min(pingLimit, s.core.cfg.DialTimeout))
	defer cancel()
	var err error
	if x.c != nil {
		err = x.c.PingContext(ctx)
	} else {
		err = x.n.pinger.Ping(ctx)
	}
	if err != nil {
		return ctx.Err() != nil && ctx.Err() != context.DeadlineExceeded //nolint:errorlint // the pool stops: nothing was learnt
	}
	s.mu.Lock()
	x.n.seen = time.Now()
	s.mu.Unlock()
	return true
}

// nextDue is when an open connection next reaches its lifetime or its silence.
func (s *store) nextDue(o eviction.Sweep) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for n := range s.all {
		if t := o.Expiry(n.born, n.draw); !t.IsZero() && t.After(o.Now) {
			sooner(t)
		}
		if o.KeepAlive > 0 && n.pinger != nil {
			sooner(n.seen.Add(o.KeepAlive))
		}
	}
	return next
}

// rescue fetches idle connections for the queue in which w stands. It is needed in two cases: a connection was checked
// in just before w queued and has not reached database/sql's free list, or database/sql has seen two broken
// connections in a row and insists on a new one while the pool is full. In the second case what is idle makes room.
func (s *store) rescue(ctx context.Context, w *waiter) {
	for pause := rescueFrom; ; pause = min(2*pause, rescueTo) {
		s.mu.Lock()
		needed := w.queued && s.idle > 0 && s.dialing == 0
		distrust := time.Since(s.bad) < time.Second
		s.mu.Unlock()
		if !needed {
			return
		}
		c, err := s.db.Conn(&sweepContext{ctx})
		if err == nil {
			_ = c.Raw(func(dc any) error {
				x, ok := dc.(wrapper)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.coming--
				if ok && distrust {
					x.base().reason = poolkeeper.EvictedDead
				} else if ok {
					x.base().hand = true
				}
				return driver.ErrBadConn // database/sql closes it, which hands it over or makes room
			})
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}
