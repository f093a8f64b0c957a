package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

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
	s.peak = s.inUse + s.waiting.Len()
	return p
}

// Fill opens connections into the stash, one after the other, as long as fewer than n are idle.
func (s *store) Fill(ctx context.Context, n int) error {
	if d := s.core.down(); d != nil {
		return d
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)() //nolint:contextcheck // two lives bound it
	for {
		s.mu.Lock()
		enough := s.closed || s.paused || s.idle+s.swept+len(s.stash) >= n || s.open+s.dialing >= s.max
		if !enough {
			s.dialing++
		}
		s.mu.Unlock()
		if enough || ctx.Err() != nil {
			if !enough {
				s.undial()
			}
			return ctx.Err()
		}
		c, err := s.connectWithin(ctx)
		s.filled(c, err)
		if err != nil {
			return err
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
	ctx, cancel := context.WithTimeout(ctx, s.core.cfg().DialTimeout)
	defer cancel()
	return s.connect(ctx)
}

// filled books the outcome of a dial that no caller waited for. No caller gets its failure.
func (s *store) filled(n *native, err error) {
	if err == nil {
		s.dialled(new(dialing), n, nil)
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

// taken is an idle connection that a sweep has taken out.
type taken struct {
	lease *sql.Conn // nil: from the stash
	w     *conn     // nil: from the stash
	n     *native
}

// Sweep first takes out all idle connections for a moment, without I/O. database/sql keeps them
// last in, first out, so the stalest are at the bottom. Callers that come meanwhile queue. They get
// connections as Sweep gives them back, without a dial. Then Sweep closes and pings, at most
// order.Batch connections at a time.
func (s *store) Sweep(ctx context.Context, order eviction.Sweep) (next time.Time) {
	for again := true; again && ctx.Err() == nil; order.Surplus = 0 { // another pass is only for more pings
		idle := s.takeIdle(ctx)
		var drop, ask, rest []candidate[taken]
		drop, ask, rest, again = choose(s.core, idle, order, 0)
		for _, x := range rest { // the coldest first, so that the order stays
			s.giveBack(x.conn)
		}
		s.came(len(idle))
		for _, x := range drop {
			s.drop(x.conn, x.reason)
		}
		for _, x := range ask {
			if s.alive(ctx, x.conn) {
				s.giveBack(x.conn)
				continue
			}
			s.drop(x.conn, poolkeeper.EvictedDead)
		}
	}
	return s.nextDue(order)
}

// takeIdle takes out every idle connection.
func (s *store) takeIdle(ctx context.Context) []candidate[taken] {
	s.ownLimits()
	s.mu.Lock()
	bound := s.open
	out := make([]candidate[taken], 0, bound)
	for _, n := range s.stash {
		out = append(out, candidate[taken]{conn: taken{n: n}, mute: n.Pinger == nil})
	}
	s.swept += len(s.stash)
	s.coming += len(s.stash)
	s.stash = nil
	s.mu.Unlock()

	for range bound {
		lease, w := s.lease(ctx)
		if lease == nil {
			break
		}
		out = append(out, candidate[taken]{conn: taken{lease: lease, w: w, n: w.n}, mute: w.n.Pinger == nil})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range out {
		out[i].times = out[i].conn.n.times
	}
	return out
}

// lease takes one idle connection out of database/sql, or returns nil if there is none.
func (s *store) lease(ctx context.Context) (lease *sql.Conn, w *conn) {
	ctx, cancel := context.WithTimeout(ctx, hangUpLimit) // it would wait if a caller had set a limit on the handle
	defer cancel()
	lease, err := s.db.Conn(&sweepContext{ctx}) //nolint:contextcheck // it is ctx, marked
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
func (s *store) came(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming -= n
	s.dialLocked()
}

func (s *store) giveBack(x taken) {
	if x.lease != nil {
		_ = x.lease.Close() // a check-in
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
	_ = s.discard(x.n, poolkeeper.EvictedClosed, hangUpLimit)
}

func (s *store) drop(x taken, reason string) {
	if x.lease == nil {
		s.mu.Lock()
		s.swept--
		s.mu.Unlock()
		_ = s.discard(x.n, reason, hangUpLimit)
		return
	}
	_ = x.lease.Raw(func(any) error {
		s.mu.Lock()
		x.w.reason = reason
		s.mu.Unlock()
		return driver.ErrBadConn // database/sql closes it
	})
}

// alive pings a connection that is out of the pool.
func (s *store) alive(ctx context.Context, x taken) bool {
	ping, cancel := context.WithTimeout(ctx, min(pingLimit, s.core.cfg().DialTimeout))
	defer cancel()
	asked := time.Now()
	var err error
	if caught := guard.Call(func() { // a driver that exits must not end the evictor
		if x.lease != nil {
			err = s.core.guarded("the driver's Ping", func() error { return x.lease.PingContext(ping) })
		} else {
			err = x.n.ping(ping, s.core)
		}
	}); caught != nil {
		err = caught
	}
	if err != nil && ctx.Err() == nil {
		s.core.diedInUse(err, time.Now()) // the others are suspect, as if it had been in use
		return false
	}
	if err != nil { // the pool stops, and nothing was learnt
		return true
	}
	s.core.link.Saw(time.Since(asked))
	s.mu.Lock()
	defer s.mu.Unlock()
	x.n.seen = time.Now()
	return true
}

func (s *store) nextDue(o eviction.Sweep) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]eviction.Conn, 0, len(s.all))
	for n := range s.all {
		open = append(open, n.forEviction(n.Pinger == nil))
	}
	return o.Next(open)
}

// flush sweeps only for what is stale. One at a time is enough: a later one finds what an earlier
// one has missed.
func (s *store) flush() {
	if !s.flushing.CompareAndSwap(false, true) {
		return
	}
	s.left.Go(func() {
		s.flushing.Store(false)
		s.mu.Lock()
		surplus := max(s.open-s.max, 0) // the limit was lowered
		s.mu.Unlock()
		s.Sweep(s.life, eviction.Sweep{Now: time.Now(), Batch: 1, Surplus: surplus}) // Stats tells what it closes
	})
}
