package redispool

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/eviction"
)

// go-redis exports no access to its pool. But it lends connections: an EphemeralConn is taken out of the pool when it
// is first used and discarded when it is closed, a Conn is put back. The pool is FIFO, so both get at the connection
// that was idle for longest. That is all that eviction needs.

// maxCondemned is how many idle connections may be condemned at once: go-redis looks at three before it dials.
const maxCondemned = 2

func (p *Pool) policy() eviction.Policy {
	c := p.config()
	return eviction.Policy{
		MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter,
		KeepAlive: c.KeepAlive, Interval: c.EvictionInterval, Batch: 1,
	}
}

// Open implements eviction.Pool.
func (n *node) Open() int { return int(n.open.Load()) }

// Peak implements eviction.Pool.
func (n *node) Peak() int {
	n.rotate(n.pool.life)
	return n.gate.Peak()
}

// Sweep implements eviction.Pool. It has one connection out of the pool at a time.
func (n *node) Sweep(ctx context.Context, s eviction.Sweep) (eviction.Swept, error) {
	if err := n.upkeep.Take(ctx); err != nil {
		return eviction.Swept{}, err
	}
	defer n.upkeep.End()
	var out eviction.Swept
	err := n.closeCondemned(ctx)
	if err == nil {
		err = n.closeSurplus(ctx, s, &out)
	}
	if err == nil && s.MaxLifetime > 0 {
		err = n.closeExpired(ctx, s, &out)
	}
	if err == nil && s.KeepAlive > 0 {
		err = n.pingSilent(ctx, s, &out)
	}
	for _, c := range n.list() {
		if s.MaxLifetime > 0 {
			out.Next = sooner(out.Next, s.Expiry(c.born(), c.draw))
		}
		if s.KeepAlive > 0 {
			out.Next = sooner(out.Next, c.silentSince().Add(s.KeepAlive))
		}
	}
	return out, err
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// closeSurplus closes the longest idle connections until the surplus is gone, or no longer one (INV-7).
func (n *node) closeSurplus(ctx context.Context, s eviction.Sweep, out *eviction.Swept) error {
	for target := n.Open() - s.Surplus; n.Open() > target; out.Idle++ {
		free := n.idle()
		if free <= s.MinIdle || n.Open()-n.gate.InFlight() <= s.MinIdle {
			return nil
		}
		if err := n.discardOne(ctx, idle); err != nil {
			return err
		}
	}
	return nil
}

// discardOne closes the connection that was idle for longest. It needs the turn of upkeep.
func (n *node) discardOne(ctx context.Context, why reason) error {
	one := n.borrow(true)
	err := one.seize(ctx)
	if err == nil {
		n.closing.Store(uint32(why))
	}
	one.Close()
	n.closing.Store(uint32(stays))
	return err
}

// closeExpired has go-redis drop connections past their lifetime, a few at a time.
func (n *node) closeExpired(ctx context.Context, s eviction.Sweep, out *eviction.Swept) error {
	var expired []*conn
	for _, c := range n.list() {
		if s.Expired(c.born(), c.draw) && reason(c.sentence.Load()) == stays {
			expired = append(expired, c)
		}
	}
	for len(expired) > 0 && ctx.Err() == nil {
		now := expired[:min(len(expired), maxCondemned)]
		expired = expired[len(now):]
		for _, c := range now {
			c.condemn(lifetime)
		}
		if err := n.passCondemned(ctx, now); err != nil {
			return err
		}
		for _, c := range now { // one in use is dropped when it is wanted next
			if c.gone.Load() {
				out.Lifetime++
			}
		}
	}
	return nil
}

// passCondemned takes idle connections out and puts them back, one at a time, until go-redis has come past the
// condemned ones, or past all that were idle.
func (n *node) passCondemned(ctx context.Context, condemned []*conn) error {
	for left := n.idle(); left > 0 && ctx.Err() == nil; left-- {
		pending := false
		for _, c := range condemned {
			pending = pending || !c.gone.Load()
		}
		if !pending {
			return nil
		}
		one := n.borrow(false)
		err := one.seize(ctx)
		one.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// closeCondemned closes what is idle and condemned, without a dial: left to a checkout, go-redis drops three and then
// dials for one that nobody has asked for. It needs the turn of upkeep.
func (n *node) closeCondemned(ctx context.Context) error {
	for left := n.idle(); left > 0 && n.hasCondemned() && ctx.Err() == nil; left-- {
		one := n.borrow(false)
		n.pardoned = nil
		n.pardons.Store(goroutineID())
		err := one.seize(ctx)
		n.pardons.Store(0)
		if err == nil && n.pardoned != nil {
			n.pardoned.cut()
			_ = one.base(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping")}) // go-redis finds it closed, and drops it
		}
		one.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *node) hasCondemned() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.purpose == forPool && reason(c.sentence.Load()) != stays {
			return true
		}
	}
	return false
}

// pardon lets closeCondemned, and nobody else, have a condemned connection.
func (n *node) pardon(c *conn) bool {
	by := n.pardons.Load()
	if by == 0 || by != goroutineID() {
		return false
	}
	n.pardoned = c
	return true
}

// pingSilent asks those that were silent for KeepAlive whether they live. go-redis closes one that does not answer.
func (n *node) pingSilent(ctx context.Context, s eviction.Sweep, out *eviction.Swept) error {
	silent := 0
	for _, c := range n.list() {
		if s.Now.Sub(c.silentSince()) >= s.KeepAlive {
			silent++
		}
	}
	for left := min(silent, n.idle()); left > 0 && ctx.Err() == nil; left-- {
		err := n.pingOne(ctx)
		if err == nil {
			continue
		}
		out.Dead++
		_ = n.outcome(err) // an answer missing is news for the health check
		if n.pool.life.Err() == nil {
			return err // the next may take as long; the health check decides what this one meant
		}
	}
	return nil
}

func (n *node) pingOne(ctx context.Context) error {
	one := n.borrow(false)
	defer one.Close()
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	return one.base(ctx, onceOnly{redis.NewStatusCmd(ctx, "ping")}) // a loan has no second connection to try again on
}

// Fill implements eviction.Pool. A dial by go-redis' pool needs a caller who finds nothing idle: the adder takes what
// is idle, asks for one more, and puts the others back as soon as that dial has begun.
func (n *node) Fill(ctx context.Context, want int) (int, error) {
	if !n.isDoor && !n.used.Load() {
		return 0, nil // a Cluster's replica, for example, that nobody reads from
	}
	if err := n.upkeep.Take(ctx); err != nil {
		return 0, err
	}
	defer n.upkeep.End()
	for opened := 0; ; opened++ {
		s := n.client.PoolStats()
		free := int(s.IdleConns)
		if free >= want || int(s.TotalConns) >= n.pool.config().MaxOpen || n.pool.gate.Closed() || n.pool.valve.isPaused() {
			return opened, nil
		}
		if err := n.addOne(ctx, free); err != nil {
			if errors.Is(err, redis.ErrClosed) { // a node that has left a Cluster: nobody is to try again
				return opened, nil
			}
			return opened, err
		}
	}
}

func (n *node) addOne(ctx context.Context, free int) error {
	select {
	case <-n.dialEntered: // left by another's dial
	default:
	}
	held := make([]loan, 0, free)
	putBack := func() {
		for _, l := range held {
			l.Close()
		}
		held = nil
	}
	defer putBack()
	for range free {
		one := n.borrow(false)
		held = append(held, one)
		if err := one.seize(ctx); err != nil {
			return err
		}
	}
	added := n.borrow(false)
	defer added.Close()
	done := make(chan error, 1)
	// Owner: this call, which waits for it. It ends with ctx, or with the dial, which DialTimeout bounds.
	go func() { done <- added.seize(ctx) }()
	select {
	case <-n.dialEntered:
		putBack()
		return <-done
	case err := <-done:
		return err
	}
}

// idle is how many connections nobody holds.
func (n *node) idle() int { return int(n.client.PoolStats().IdleConns) }

// loan is a connection lent to the pool itself.
type loan struct {
	conn *redis.Conn
	base redis.ProcessHook
	wait time.Duration
}

// borrow returns a loan that has no connection yet. With discard the connection is closed at the end, and else put
// back. It needs the turn of upkeep.
func (n *node) borrow(discard bool) loan {
	var c *redis.Conn
	if discard {
		c = n.client.EphemeralConn()
	} else {
		c = n.client.Conn()
	}
	return loan{conn: c, base: n.borrowed, wait: n.pool.patience()}
}

// seize takes a connection for the loan. If none is idle go-redis dials one.
func (l loan) seize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	return seize(ctx, l.base)
}

// Close ends the loan.
func (l loan) Close() { _ = l.conn.Close() }
