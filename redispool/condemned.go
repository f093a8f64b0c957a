package redispool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

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
	if n.upkeep.Take(ctx) != nil {
		return true // the pool has ended
	}
	defer n.upkeep.End()
	if n.idle() == 0 {
		return true
	}
	_, err := n.sift(ctx, nil, func(idle []*loan) {
		for _, l := range idle {
			l.fate = l.conn.fate()
		}
	})
	return err == nil || errors.Is(err, redis.ErrClosed)
}

// hasCondemned reports whether a condemned connection is open.
func (n *node) hasCondemned() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.is() == forPool && c.sentenced() != stays {
			return true
		}
	}
	return false
}
