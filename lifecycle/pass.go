package lifecycle

import (
	"context"
	"time"
)

// pass takes a set of components up or down, each as soon as its last blocker has settled: going up, a component is
// blocked by what it depends on; going down, by what depends on it. It has no goroutine of its own and none for a
// component that waits: a call's goroutine begins the calls it has made ready, and whoever asked for the pass drives
// its deadlines. Work and memory are proportional to the components and edges in the set.
//
// All fields are guarded by Registry.mu but for those said to be immutable.
type pass struct {
	r      *Registry
	up     bool            // immutable
	ctx    context.Context //nolint:containedctx // parent of the contexts of its calls; immutable
	cancel context.CancelCauseFunc

	began time.Time
	end   time.Time // when its time is over; cut moves it
	left  int       // members that have not settled
	over  bool      // it begins nothing more: it failed, or another pass took over
	taken bool      // another pass took over
	cut   bool      // its time was cut short: from now on abort rather than stop
	calls []call    // unused calls, allocated together
	due   dueQueue
	alarm time.Time // what the driver sleeps until
	stale bool      // it should wake earlier
	order []*node   // settled, in order
	errs  []error

	wake chan struct{} // 1 buffered: look at the state and the clock again; immutable
}

const (
	// graceLimit and gracePart give what is kept back of a slice for Abort, and for a component to return after its
	// context has ended: an eighth of the slice, at most 100 ms.
	graceLimit = 100 * time.Millisecond
	gracePart  = 8

	// cutGrace is the time for aborting everything after a shutdown was cut short.
	cutGrace = 100 * time.Millisecond
)

// newPassLocked makes a pass over members and returns it with the calls that can begin at once.
func (r *Registry) newPassLocked(ctx context.Context, up bool, end time.Time, members []*node) (*pass, *call) {
	p := &pass{r: r, up: up, began: time.Now(), end: end, left: len(members), wake: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.order = make([]*node, 0, len(members))
	for _, n := range members {
		n.pass, n.blockers, n.begun, n.settled, n.last = p, 0, false, false, nil
	}
	for _, n := range members {
		for _, id := range p.blockers(n) {
			if r.nodes[id].pass == p {
				n.blockers++
			}
		}
	}
	if !ctxAlive(p.ctx) && !up {
		p.cutLocked(p.began, context.Cause(p.ctx))
	}
	var ready *call
	for _, n := range members {
		if n.blockers == 0 && !n.begun {
			ready = p.beginLocked(n, nil, p.began, ready)
		}
	}
	return p, ready
}

func ctxAlive(ctx context.Context) bool { return ctx.Err() == nil }

// blockers are the nodes that must settle before n.
func (p *pass) blockers(n *node) []int32 {
	if p.up {
		return p.r.graph.Deps(n.id)
	}
	return p.r.graph.Dependents(n.id)
}

// blocked are the nodes that wait for n.
func (p *pass) blocked(n *node) []int32 {
	if p.up {
		return p.r.graph.Dependents(n.id)
	}
	return p.r.graph.Deps(n.id)
}

// begin starts the goroutines of a list of calls.
func (p *pass) begin(ready *call) {
	for c := ready; c != nil; {
		next := c.ready // c may be done with before the next line
		c.ready = nil
		go c.run(p.r)
		c = next
	}
}

// beginLocked gives n its turn, last being the node that made it ready, and returns ready with what is to be begun.
func (p *pass) beginLocked(n, last *node, now time.Time, ready *call) *call {
	n.begun, n.last = true, last
	if n.comp == nil {
		return p.settleLocked(n, now, ready)
	}
	if p.up {
		if !p.r.becomeLocked(n, StateStarting, now) {
			return p.settleLocked(n, now, ready)
		}
		n.epoch++
		n.up = Step{Name: n.name, Began: now}
		return p.callLocked(n, doStart|doHealth, now, ready)
	}
	return p.beginDownLocked(n, now, ready)
}

// beginDownLocked stops n, or does what else is right for the state it is in.
func (p *pass) beginDownLocked(n *node, now time.Time, ready *call) *call {
	n.down = Step{Name: n.name, Began: now}
	switch n.state {
	case StateStarting, StateDraining, StateStopping:
		// A call of an earlier pass is under way. It has our deadlines from now on; finish goes on from there.
		p.adoptLocked(n.call, now)
		return ready
	case StateAdded, StateFailed:
		if _, ok := n.comp.(inert); ok {
			p.r.becomeLocked(n, StateStopping, now)
			p.r.becomeLocked(n, StateStopped, now)
			n.down.Outcome = OutcomeOK
			return p.settleLocked(n, now, ready)
		}
		return p.callLocked(n, discard(n.comp), now, ready)
	case StateUp, StateCompleted, StateDead:
		if p.cut {
			return p.callLocked(n, discard(n.comp), now, ready)
		}
		return p.callLocked(n, gently(n.comp), now, ready)
	case StateAbandoned:
		// Its Start, or an earlier Stop, hangs. It is named again, because it may still be up.
		n.down.Outcome, n.down.Err = OutcomeAbandoned, n.err
		p.errs = append(p.errs, n.err)
		if _, ok := n.comp.(Aborter); ok {
			return p.callLocked(n, doAbort, now, ready)
		}
	case StateStopped:
	}
	return p.settleLocked(n, now, ready)
}

// gently is how a component that is up is stopped.
func gently(c Component) todo {
	if _, ok := c.(Drainer); ok {
		return doDrain | doStop
	}
	return doStop
}

// discard is how a component is stopped that never came up, or for which there is no time.
func discard(c Component) todo {
	if _, ok := c.(Aborter); ok {
		return doAbort
	}
	return doStop
}

// callLocked makes the call for n's turn and puts it in front of ready.
func (p *pass) callLocked(n *node, what todo, now time.Time, ready *call) *call {
	const together = 64
	if len(p.calls) == 0 {
		p.calls = make([]call, min(together, max(p.left, 1)))
	}
	c := &p.calls[0]
	p.calls = p.calls[1:]
	if n.labels == nil {
		n.labels = p.r.labeled(n)
	}
	c.n, c.todo, c.parts, c.began, c.ready = n, what, 1, now, ready
	c.parent, c.labels = p.ctx, n.labels
	n.call = c
	p.adoptLocked(c, now)
	c.deadline = c.warn
	return c
}

// adoptLocked gives c a slice of p's time.
func (p *pass) adoptLocked(c *call, now time.Time) {
	c.pass = p
	slice := p.sliceLocked(c.n, now)
	grace := min(slice/gracePart, graceLimit)
	c.until = now.Add(slice)
	c.warn = c.until.Add(-grace)
	if c.lapsed {
		p.watchLocked(c, c.until)
	} else {
		p.watchLocked(c, c.warn)
	}
}

// watchLocked has the driver look at c at the given time, and no longer at an earlier one.
func (p *pass) watchLocked(c *call, at time.Time) {
	c.at = at
	p.due.push(c)
	if at.Before(p.alarm) {
		p.stale = true
	}
}

// sliceLocked is the time n gets from now on. Going up it is all there is, unless n has its own limit. Going down it is
// a share of what is left: with L components in the longest chain from n down to one without dependencies, itself
// included, one L-th. So a component that hangs does not eat the time of those below it, and time that is not used
// passes on.
func (p *pass) sliceLocked(n *node, now time.Time) time.Duration {
	left := max(p.end.Sub(now), 0)
	limit := n.startTimeout
	if !p.up {
		left /= time.Duration(max(p.r.chains[n.id], 1))
		limit = n.stopTimeout
	}
	if limit > 0 {
		left = min(left, limit)
	}
	return left
}

// settleLocked ends n's part in p and returns ready with the calls this makes ready.
func (p *pass) settleLocked(n *node, now time.Time, ready *call) *call {
	if n.settled {
		return ready
	}
	n.settled = true
	p.left--
	if n.comp != nil {
		p.order = append(p.order, n)
	}
	for _, id := range p.blocked(n) {
		m := p.r.nodes[id]
		if m.pass != p {
			continue
		}
		m.blockers--
		if m.blockers == 0 && !m.begun && !p.over {
			ready = p.beginLocked(m, n, now, ready)
		}
	}
	return ready
}

// failLocked ends a pass up: nothing more is begun.
func (p *pass) failLocked(err error) {
	p.over = true
	p.errs = append(p.errs, err)
}

// cutLocked leaves p a moment to abort what is not down yet.
func (p *pass) cutLocked(now time.Time, cause error) {
	if p.cut {
		return
	}
	p.cut = true
	p.end = now.Add(cutGrace)
	p.cancel(cause)
	for _, n := range p.r.nodes {
		if n.pass == p && n.begun && !n.settled && n.call != nil && n.call.pass == p {
			p.adoptLocked(n.call, now)
			if !n.call.lapsed {
				n.call.warn = now
				p.watchLocked(n.call, now)
			}
		}
	}
}

// poke makes the driver of p look again.
func (p *pass) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
