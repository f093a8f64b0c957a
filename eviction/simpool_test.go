package eviction_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/eviction"
)

// simPool is a LIFO pool in memory that knows everything: when each connection was used last, and
// what it has cost.
type simPool struct {
	limit    int
	dialTime time.Duration
	minAge   time.Duration // see young

	mu     sync.Mutex // guards the following
	wake   func()
	idle   []*simConn // the last one is handed out first
	inUse  int
	peak   int
	down   bool // dialling fails
	adders int  // Fill calls under way
	seen   record
}

// record is what a simPool has lived through.
type record struct {
	dials   int
	fills   []time.Time // dials that Fill attempted
	closed  closings
	young   int // closed as idle before they had been idle for minAge
	sweeps  int
	samples int  // calls of Peak
	overlap bool // two adders at once
}

// closings are connections closed by the evictor, by reason.
type closings struct{ Idle, Lifetime, Dead int }

func (p *simPool) record() record {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.seen
	out.fills = slices.Clone(out.fills)
	return out
}

func (p *simPool) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

type simConn struct {
	born, used time.Time
	draw       float64
	dead       bool
}

var errDown = errors.New("server is down")

func (p *simPool) acquire() *simConn {
	p.mu.Lock()
	p.inUse++
	p.peak = max(p.peak, p.inUse)
	var c *simConn
	dialled := len(p.idle) == 0
	if dialled {
		p.seen.dials++
		c = &simConn{born: time.Now()}
	} else {
		c = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
	}
	wake := p.wake
	p.mu.Unlock()
	if dialled {
		time.Sleep(p.dialTime)
	}
	if wake != nil {
		wake()
	}
	return c
}

func (p *simPool) release(c *simConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.used = time.Now()
	p.inUse--
	p.idle = append(p.idle, c)
}

// use holds n connections at once for d.
func (p *simPool) use(n int, d time.Duration) {
	held := make([]*simConn, n)
	for i := range held {
		held[i] = p.acquire()
	}
	time.Sleep(d)
	for _, c := range slices.Backward(held) {
		p.release(c)
	}
}

func (p *simPool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse + len(p.idle)
}

func (p *simPool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

func (p *simPool) Peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.peak
	p.peak = p.inUse
	p.seen.samples++
	return n
}

// Sweep needs no time: every ping is answered or not at once.
func (p *simPool) Sweep(_ context.Context, s eviction.Sweep) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.sweeps++
	for again := true; again; s.Surplus = 0 {
		var actions []eviction.Action
		actions, again = s.Choose(p.conns(), 0)
		var keep []*simConn
		for i, c := range p.idle {
			switch a := actions[i]; {
			case a == eviction.ActionCloseExpired:
				p.seen.closed.Lifetime++
			case a == eviction.ActionCloseSurplus:
				p.seen.closed.Idle++
				if s.Now.Sub(c.used) < p.minAge {
					p.seen.young++
				}
			case a == eviction.ActionPing && c.dead:
				p.seen.closed.Dead++
			case a == eviction.ActionPing:
				c.used = s.Now
				fallthrough
			default:
				keep = append(keep, c)
			}
		}
		p.idle = keep
	}
	return s.Next(p.conns())
}

// conns are the idle ones, the coldest first.
func (p *simPool) conns() []eviction.Conn {
	out := make([]eviction.Conn, len(p.idle))
	for i, c := range p.idle {
		out[i] = eviction.Conn{Born: c.born, Draw: c.draw, Heard: c.used}
	}
	return out
}

func (p *simPool) Fill(ctx context.Context, n int) error {
	p.mu.Lock()
	p.seen.overlap = p.seen.overlap || p.adders > 0
	p.adders++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.adders--
		p.mu.Unlock()
	}()
	for {
		p.mu.Lock()
		enough := len(p.idle) >= n || len(p.idle)+p.inUse >= p.limit
		if !enough {
			p.seen.fills = append(p.seen.fills, time.Now())
		}
		down := p.down
		p.mu.Unlock()
		if enough {
			return nil
		}
		if down {
			return errDown
		}
		select {
		case <-time.After(p.dialTime):
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
		p.seen.dials++
		p.idle = slices.Insert(p.idle, 0, &simConn{born: time.Now(), used: time.Now()})
		p.mu.Unlock()
	}
}
