package redispool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
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

// Peak implements eviction.Pool. Conns that callers have closed may still count: the pool looks for
// them afterwards, so that the next call knows.
func (n *node) Peak() int {
	peak := max(n.gate.Peak(), n.demand.take())
	if n.lent.Load() > 0 {
		n.demand.settle(n)
	}
	return peak
}

// demand corrects the peak of a node's gate by Conns that were closed unnoticed.
type demand struct {
	settling atomic.Bool
	peak     atomic.Int64 // while it was settled
}

func (d *demand) take() int { return int(d.peak.Swap(0)) }

// settle begins to look for Conns that were closed, and has the gate count from then on.
func (d *demand) settle(n *node) {
	if !d.settling.CompareAndSwap(false, true) {
		return
	}
	if !n.pool.dialing.Enter() { // Stop waits for it as for a dial
		d.settling.Store(false)
		return
	}
	// Owner: the node. It ends after a rotation, which takes no longer than a glance at the upkeep
	// under way. Waiter: Stop, by dialing.
	go func() {
		defer n.pool.dialing.Leave()
		defer d.settling.Store(false)
		lent := n.lent.Load()
		n.rotate(n.pool.life)
		closed := max(lent-n.lent.Load(), 0)
		d.peak.Store(max(int64(n.gate.Peak())-closed, 0))
	}()
}

// Sweep implements eviction.Pool.
func (n *node) Sweep(ctx context.Context, s eviction.Sweep) (next time.Time) {
	if n.upkeep.Lock(ctx) != nil {
		return time.Time{}
	}
	defer n.upkeep.Unlock()
	for again := n.needsSweep(s); again; s.Surplus = 0 {
		asked, err := n.visitIdle(ctx, nil, func(idle []*idleConn) { again = n.choose(idle, s) })
		if !n.pingAll(ctx, asked) || err != nil {
			break // the next may take as long; the health check decides what these meant
		}
	}
	var open []eviction.Conn
	for _, c := range n.list() {
		if s.Expired(c.bornAt(), c.draw) { // it is in use: it is closed when it comes back
			c.condemn(lifetime)
		}
		open = append(open, c.forEviction())
	}
	return s.Next(open)
}

// needsSweep reports whether a look through what is idle can come to anything.
func (n *node) needsSweep(s eviction.Sweep) bool {
	return n.idle() > 0 && (s.Surplus > 0 || slices.ContainsFunc(n.list(), func(c *conn) bool { return s.Due(c.forEviction()) }))
}

// forEviction is what eviction has to know of a connection. Whether it has ended is looked up only
// while it is borrowed.
func (c *conn) forEviction() eviction.Conn {
	return eviction.Conn{Born: c.bornAt(), Draw: c.draw, Heard: c.silentSince(), Condemned: c.closeReason() != stays}
}

// choose marks what becomes of the idle connections, the one used last first. It reports whether
// some that are silent have to wait for the next pass.
func (n *node) choose(idle []*idleConn, s eviction.Sweep) (again bool) {
	conns := make([]eviction.Conn, len(idle))
	for i, l := range idle {
		c := l.conn.forEviction()
		l.closeFor = l.conn.overdueReason()
		c.Condemned = l.closeFor != stays
		conns[i] = c
	}
	slices.Reverse(conns)
	// Callers in the queue need connections, and so do admitted callers that have none yet.
	inUse := n.Open() - len(idle)
	needed := n.permits.waiting() + max(int(n.permits.busy.Load())-inUse, 0)
	actions, again := s.Choose(conns, needed)
	slices.Reverse(actions)
	for i, l := range idle {
		switch actions[i] {
		case eviction.ActionPing:
			l.ask = true
		case eviction.ActionCloseSurplus:
			l.closeFor = unneeded
		case eviction.ActionCloseExpired:
			l.closeFor = lifetime
		case eviction.ActionKeep, eviction.ActionCloseCondemned:
		}
	}
	return again
}

// overdueReason is why an idle connection is to be closed whatever the demand and its age.
func (c *conn) overdueReason() reason {
	if r := c.closeReason(); r != stays || !c.hasEnded() {
		return r
	}
	return dead
}

// pingAll asks connections for a sign of life, all at once, and gives them back. go-redis closes
// one that gives none. It reports whether all did.
func (n *node) pingAll(ctx context.Context, asked []*idleConn) bool {
	all := true
	for _, err := range n.ping(ctx, asked) {
		if err != nil {
			all = false
			_ = n.outcome(err) // an answer missing is news for the health check
		}
	}
	return all
}

// ping asks several connections at once, and gives them back.
func (n *node) ping(ctx context.Context, asked []*idleConn) []error {
	ctx, cancel := context.WithTimeout(ctx, n.pool.patience())
	defer cancel()
	errs := make([]error, len(asked))
	var wg sync.WaitGroup
	for i, l := range asked { // they end with their answer or with ctx, and are waited for below
		wg.Go(func() {
			defer l.release()
			errs[i] = n.pool.events.Guarded(ownUse, func() error { return l.ping(ctx) })
		})
	}
	wg.Wait()
	return errs
}

// Fill implements eviction.Pool. go-redis' pool dials only for a caller that finds no idle
// connection. So Fill borrows all idle connections, asks for one more, and returns the others as
// soon as that dial has begun.
func (n *node) Fill(ctx context.Context, want int) error {
	if !n.ownsGate && !n.used.Load() {
		return nil // for example a Cluster's replica that no caller reads from
	}
	if err := n.upkeep.Lock(ctx); err != nil {
		return err
	}
	defer n.upkeep.Unlock()
	for {
		s := n.client.PoolStats()
		free := int(s.IdleConns)
		if free >= want || int(s.TotalConns) >= n.pool.config().MaxOpen || n.pool.gate.Closed() || n.isPaused() || n.breaker.Down() != nil {
			return nil
		}
		if err := n.pool.events.Guarded(ownUse, func() error { return n.addOne(ctx, free) }); err != nil {
			if errors.Is(err, redis.ErrClosed) { // a node that has left a Cluster: do not try again
				return nil
			}
			return err
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
	held := make([]*idleConn, 0, free)
	releaseAll := func() {
		for _, l := range slices.Backward(held) {
			l.release()
		}
		held = nil
	}
	defer releaseAll()
	for range free {
		one := n.newIdleConn()
		if err := n.acquireIdle(ctx, one); errors.Is(err, errBusy) {
			return nil // a connection was dialled, as intended
		} else if err != nil {
			return err
		}
		held = append(held, one)
	}
	added := n.newIdleConn()
	defer added.release()
	done := make(chan error, 1)
	// Owner: this call, which waits for it. It ends with ctx, or with the dial, which DialTimeout
	// bounds.
	go func() { done <- n.pool.events.Guarded(ownUse, func() error { return n.acquireFor(ctx, added) }) }()
	select {
	case <-n.dialEntered:
		releaseAll()
		return <-done
	case err := <-done:
		return err
	}
}

// firstPurge and lastPurge are the least and the most time between two purges while a condemned
// connection is in use.
const (
	firstPurge = 2 * time.Millisecond
	lastPurge  = time.Second
)

// purges closes condemned connections as soon as they are idle, without a caller. Otherwise they
// would stay open below those in use, and a caller that meets three of them at a checkout would
// have to dial.
//
// go-redis does not say when a connection comes back. A command's first answer on a condemned
// connection says that it will soon: purges then begin again at firstPurge, and each later one
// waits twice as long. A Conn may keep its connection for long after an answer, so its answers are
// not counted: it is found within lastPurge after its Close.
type purges struct {
	node    *node
	pending atomic.Bool // one is due or under way: a command may meet a condemned connection

	mu    sync.Mutex    // guards the following
	timer *time.Timer   // nil: none is due
	delay time.Duration // of timer
	runs  bool          // a purge is under way
	again bool          // another is due after it
}

// within has a purge begin after delay at most. It does not block.
func (p *purges) within(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.runs:
		p.again = true
	case p.timer == nil:
		p.setLocked(delay)
	case p.delay > delay && p.timer.Stop():
		p.setLocked(delay)
	}
}

// setLocked sets the timer. A timer that fires after Stop does nothing.
func (p *purges) setLocked(delay time.Duration) {
	p.pending.Store(true)
	p.delay = delay
	p.timer = time.AfterFunc(delay, p.run)
}

// run is the timer's function: one purge, and the timer set for the next if that has something to
// do.
func (p *purges) run() {
	n := p.node
	if !n.pool.dialing.Enter() { // Stop waits for it as for a dial
		return
	}
	defer n.pool.dialing.Leave()
	p.mu.Lock()
	p.timer, p.runs, p.again = nil, true, false
	p.mu.Unlock()
	done := n.purge(n.pool.life)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs = false
	switch {
	case p.again:
		p.setLocked(firstPurge)
	case !done || n.hasCondemned():
		p.setLocked(min(max(2*p.delay, firstPurge), lastPurge))
	default:
		p.pending.Store(false)
	}
}

// purge closes idle connections that are condemned, or that the server has closed. It reports
// whether it has seen all that are idle.
func (n *node) purge(ctx context.Context) (done bool) {
	if n.upkeep.Lock(ctx) != nil {
		return true // the pool has ended
	}
	defer n.upkeep.Unlock()
	if n.idle() == 0 {
		return true
	}
	_, err := n.visitIdle(ctx, nil, func(idle []*idleConn) {
		for _, l := range idle {
			l.closeFor = l.conn.overdueReason()
		}
	})
	return err == nil || errors.Is(err, redis.ErrClosed)
}

// hasCondemned reports whether a condemned connection is open.
func (n *node) hasCondemned() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.is() == forPool && c.closeReason() != stays {
			return true
		}
	}
	return false
}

// reason is why a connection was closed, or is to be.
type reason uint32

const (
	stays reason = iota // it is not to be closed
	unneeded
	lifetime
	dead
	failover
	reload
	closed
	reasons // how many there are
)

// String returns the key of [poolkeeper.Stats.Evicted].
func (r reason) String() string {
	switch r {
	case unneeded:
		return poolkeeper.EvictedIdle
	case lifetime:
		return poolkeeper.EvictedLifetime
	case failover:
		return poolkeeper.EvictedFailover
	case reload:
		return poolkeeper.EvictedReload
	case closed:
		return poolkeeper.EvictedClosed
	case stays, dead, reasons:
	}
	return poolkeeper.EvictedDead
}

// errCondemned makes go-redis drop an idle connection instead of handing it out. No caller sees it.
var errCondemned = errors.New("redispool: connection is to be closed")

// errEnded does the same for one that the server has closed.
var errEnded = errors.New("redispool: connection was closed by the server")

// condemn has the connection closed as soon as it is idle, or at its next checkout if that is
// sooner. The first reason counts. It reports whether this was it.
func (c *conn) condemn(r reason) bool {
	first := c.closeFor.CompareAndSwap(uint32(stays), uint32(r))
	if first {
		c.node.purges.within(0)
	}
	return first
}

func (c *conn) closeReason() reason { return reason(c.closeFor.Load()) }
