package redispool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/eviction"
)

// askedAtOnce is how many connections are pinged at once, out of callers' reach, and at most half
// of those idle.
const askedAtOnce = 16

func (p *Pool) policy() eviction.Policy {
	c := p.config()
	return eviction.Policy{
		MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter,
		KeepAlive: c.KeepAlive, Interval: c.EvictionInterval, Batch: askedAtOnce,
	}
}

// Open implements eviction.Pool.
func (n *node) Open() int { return int(n.open.Load()) }

// Peak implements eviction.Pool.
func (n *node) Peak() int {
	n.rotate(n.pool.life)
	return n.gate.Peak()
}

// Sweep implements eviction.Pool.
func (n *node) Sweep(ctx context.Context, s eviction.Sweep) (eviction.Swept, error) {
	if err := n.upkeep.Take(ctx); err != nil {
		return eviction.Swept{}, err
	}
	defer n.upkeep.End()
	var out eviction.Swept
	var err error
	for more := n.isDue(s); more && err == nil; {
		more = false
		var asked []*loan
		asked, err = n.sift(ctx, nil, func(idle []*loan) { more = n.judge(idle, s, &out) })
		err = errors.Join(err, n.pingAll(ctx, asked, &out))
	}
	for _, c := range n.list() {
		if s.Expired(c.bornAt(), c.draw) { // it is in use: it is closed when it comes back
			c.condemn(lifetime)
		} else if s.MaxLifetime > 0 {
			out.Next = sooner(out.Next, s.Expiry(c.bornAt(), c.draw))
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

// isDue reports whether a look through what is idle can come to anything.
func (n *node) isDue(s eviction.Sweep) bool {
	return n.idle() > 0 && (s.Surplus > 0 || slices.ContainsFunc(n.list(), func(c *conn) bool {
		return c.sentenced() != stays || s.Expired(c.bornAt(), c.draw) || isSilent(c, s)
	}))
}

func isSilent(c *conn, s eviction.Sweep) bool {
	return s.KeepAlive > 0 && s.Now.Sub(c.silentSince()) >= s.KeepAlive
}

// judge says what becomes of the idle connections, the one used last first, and counts it. It
// reports whether some that are silent have to wait for the next time.
func (n *node) judge(idle []*loan, s eviction.Sweep, out *eviction.Swept) (more bool) {
	stay, condemned := 0, 0
	for _, l := range idle {
		switch l.fate = l.conn.fate(s); {
		case l.fate == stays:
			stay++
		case l.conn.sentenced() != stays: // which this sweep has not decided
			condemned++
		case l.fate == lifetime:
			out.Lifetime++
		default:
			out.Dead++
		}
	}
	// Demand may have risen since the order was given (INV-7). Callers at the valve need these
	// connections, and so do admitted callers that have none yet.
	inUse := n.Open() - len(idle)
	wanted := n.valve.waiting() + max(int(n.valve.busy.Load())-inUse, 0)
	surplus := min(s.Surplus-out.Closed()-condemned, stay-wanted-s.MinIdle)
	asked, most := 0, max(min(s.Batch, stay/2), 1)
	for _, l := range slices.Backward(idle) {
		switch {
		case l.fate != stays:
		case surplus > 0:
			l.fate = unneeded
			surplus--
			out.Idle++
		case !isSilent(l.conn, s):
		case asked < most:
			l.ask = true
			asked++
		default:
			more = true
		}
	}
	return more
}

// fate is why an idle connection is to be closed whatever the demand.
func (c *conn) fate(s eviction.Sweep) reason {
	switch {
	case c.sentenced() != stays:
		return c.sentenced()
	case c.hasEnded():
		return dead
	case s.Expired(c.bornAt(), c.draw):
		return lifetime
	}
	return stays
}

// pingAll asks connections for a sign of life, all at once, and gives them back. go-redis closes
// one that gives none.
func (n *node) pingAll(ctx context.Context, asked []*loan, out *eviction.Swept) error {
	errs := n.ping(ctx, asked)
	for _, err := range errs {
		if err != nil {
			out.Dead++
			_ = n.outcome(err) // an answer missing is news for the health check
		}
	}
	return errors.Join(errs...) // the next may take as long; the health check decides what these meant
}

// ping asks several connections at once, and gives them back.
func (n *node) ping(ctx context.Context, asked []*loan) []error {
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	errs := make([]error, len(asked))
	var wg sync.WaitGroup
	for i, l := range asked { // they end with their answer or with ctx, and are waited for below
		wg.Go(func() {
			defer l.giveBack()
			errs[i] = n.pool.events.Guarded(ownUse, func() error { return l.ping(ctx) })
		})
	}
	wg.Wait()
	return errs
}

// Fill implements eviction.Pool. go-redis' pool dials only for a caller that finds no idle
// connection. So Fill borrows all idle connections, asks for one more, and returns the others as
// soon as that dial has begun.
func (n *node) Fill(ctx context.Context, want int) (int, error) {
	if !n.isDoor && !n.used.Load() {
		return 0, nil // for example a Cluster's replica that no caller reads from
	}
	if err := n.upkeep.Take(ctx); err != nil {
		return 0, err
	}
	defer n.upkeep.End()
	for opened := 0; ; opened++ {
		s := n.client.PoolStats()
		free := int(s.IdleConns)
		if free >= want || int(s.TotalConns) >= n.pool.config().MaxOpen || n.pool.gate.Closed() || n.isPaused() || n.breaker.Down() != nil {
			return opened, nil
		}
		if err := n.pool.events.Guarded(ownUse, func() error { return n.addOne(ctx, free) }); err != nil {
			if errors.Is(err, redis.ErrClosed) { // a node that has left a Cluster: do not try again
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
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	held := make([]*loan, 0, free)
	giveBack := func() {
		for _, l := range slices.Backward(held) {
			l.giveBack()
		}
		held = nil
	}
	defer giveBack()
	for range free {
		one := n.borrow()
		if err := n.seizeIdle(ctx, one); errors.Is(err, errBusy) {
			return nil // a connection was dialled, as intended
		} else if err != nil {
			return err
		}
		held = append(held, one)
	}
	added := n.borrow()
	defer added.giveBack()
	done := make(chan error, 1)
	// Owner: this call, which waits for it. It ends with ctx, or with the dial, which DialTimeout
	// bounds.
	go func() { done <- n.pool.events.Guarded(ownUse, func() error { return seize(ctx, added.base) }) }()
	select {
	case <-n.dialEntered:
		giveBack()
		return <-done
	case err := <-done:
		return err
	}
}
