package lifecycle

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// pass takes a set of components up or down, each as soon as its last blocker has settled: going
// up, a component is blocked by what it depends on; going down, by what depends on it. It has no
// goroutine of its own and none for a component that waits: a call's goroutine begins the calls it
// has made ready. The goroutine that asked for the pass drives its deadlines. Work and memory are
// proportional to the components and edges in the set.
//
// All fields are guarded by Registry.mu but for those said to be immutable.
type pass struct {
	r      *Registry
	up     bool            // immutable
	ctx    context.Context //nolint:containedctx // parent of the contexts of its calls; immutable
	cancel context.CancelCauseFunc

	began instant
	end   instant // when its time is over; cut moves it
	least time.Duration
	left  int    // members that have not settled
	over  bool   // it begins nothing more: it failed, or another pass took over
	taken bool   // another pass took over
	cut   bool   // its time was cut short: from now on abort rather than stop
	calls []call // unused calls, allocated together
	due   dueQueue
	alarm instant // what the driver sleeps until
	stale bool    // it should wake earlier
	order []*node // settled, in order
	errs  []error

	wake chan struct{} // 1 buffered: look at the state and the clock again; immutable
}

const (
	// graceLimit and gracePart give what is kept back of a slice for Abort, and for a component to
	// return after its context has ended: an eighth of the slice, at most 100 ms.
	graceLimit = 100 * time.Millisecond
	gracePart  = 8

	// accountLimit and accountPart give how long before Abort the context ends on the way down: a
	// component that heeds its context has this time to cut off what is left and to say what that
	// was. An eighth of the slice, at most 150 ms.
	accountLimit = 150 * time.Millisecond
	accountPart  = 8

	// stopLimit and stopPart give what Drain leaves to Stop: a quarter of the time, at most 2 s.
	stopLimit = 2 * time.Second
	stopPart  = 4

	// leastLimit and leastPart give the least a component gets on the way down: a twentieth of all
	// there is, at most 250 ms, which is more than a container without CPU time left usually has to
	// wait for more.
	leastLimit = 250 * time.Millisecond
	leastPart  = 20

	// cutGrace is the time for aborting everything after a shutdown was cut short.
	cutGrace = 100 * time.Millisecond
)

// newPassLocked makes a pass over members and begins what can begin at once.
func (r *Registry) newPassLocked(ctx context.Context, up bool, end time.Time, members []*node) *pass {
	p := &pass{r: r, up: up, began: r.now(), end: r.at(end), left: len(members), wake: make(chan struct{}, 1)}
	p.least = min(p.end.since(p.began)/leastPart, leastLimit)
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.order = make([]*node, 0, len(members))
	for _, n := range members {
		n.pass, n.blockers, n.begun, n.settled = p, 0, false, false
	}
	for _, n := range members {
		for _, id := range p.blockers(n) {
			if r.nodes[id].pass == p {
				n.blockers++
			}
		}
	}
	switch {
	case up:
	case r.hurry != nil:
		p.cutLocked(p.began, r.hurry)
	case p.ctx.Err() != nil:
		p.cutLocked(p.began, context.Cause(p.ctx)) //nolint:contextcheck // p.ctx is made from ctx
	}
	now := r.now() // counting took its time
	for _, n := range members {
		if n.blockers == 0 && !n.begun {
			p.beginLocked(n, nil, now)
		}
	}
	return p
}

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

// beginLocked gives n its turn, last being the node that settled before.
func (p *pass) beginLocked(n, last *node, now instant) {
	n.begun = true
	switch {
	case n.comp == nil: // the barrier: passed at once, it lies on the critical path all the same
		if p.up {
			n.up.last = last
		} else {
			n.down.last = last
		}
		p.settleLocked(n, now)
	case p.up:
		p.r.becomeLocked(n, StateStarting, now)
		n.up = step{began: now, last: last}
		p.callLocked(n, upwards(n), now)
	default:
		n.down = step{began: now, last: last}
		p.beginDownLocked(n, now)
	}
}

// beginDownLocked stops n, or does what else is right for the state it is in.
func (p *pass) beginDownLocked(n *node, now instant) {
	switch {
	case p.cut:
	case now >= p.end && p.r.cfg.OnHang == HangPolicyHold:
		n.begun = false // the driver is about to find out that its turn comes too late
		return
	case p.ctx.Err() != nil: // the driver is about to find out
		p.cutLocked(now, context.Cause(p.ctx))
	case now >= p.end:
		p.cutLocked(now, context.DeadlineExceeded)
	}
	switch n.state {
	case StateStarting, StateDraining, StateStopping:
		// A call of an earlier pass is under way. It has our deadlines from now on, and goes on
		// from there.
		p.adoptLocked(n.call, now)
	case StateAdded, StateFailed:
		if _, ok := n.comp.(inert); ok {
			p.r.becomeLocked(n, StateStopping, now)
			p.r.becomeLocked(n, StateStopped, now)
			n.down.outcome = event.OutcomeOK
			p.settleLocked(n, now)
			return
		}
		p.callLocked(n, discard(n.comp), now).neverUp = true
	case StateUp, StateCompleted, StateDead:
		if p.cut {
			p.callLocked(n, discard(n.comp), now).forced = true
			return
		}
		p.callLocked(n, gently(n.comp), now)
	case StateAbandoned:
		// Its Start, or an earlier Stop, hangs. It is named again, because it may still be up.
		n.down.outcome, n.down.err = event.OutcomeAbandoned, n.err
		p.errs = append(p.errs, n.err)
		if _, ok := n.comp.(Aborter); ok {
			p.callLocked(n, doAbort, now)
			return
		}
		p.settleLocked(n, now)
	case StateStopped:
		p.settleLocked(n, now)
	}
}

// upwards is how a component is started.
func upwards(n *node) todo {
	if n.check != nil {
		return doStart | doHealth
	}
	switch n.comp.(type) {
	case DoneNotifier, Checker, MultiChecker:
		return doStart | doHealth
	}
	return doStart
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

// callLocked makes the call for n's turn and queues it.
func (p *pass) callLocked(n *node, what todo, now instant) *call {
	const together = 64
	if len(p.calls) == 0 {
		p.calls = make([]call, min(together, max(p.left, 1)))
	}
	c := &p.calls[0]
	p.calls = p.calls[1:]
	if n.labels == nil {
		n.labels = p.r.labeled(n)
	}
	c.r, c.n, c.pass, c.parent = p.r, n, p, p.ctx
	c.todo, c.parts, c.began = what, 1, now
	n.call = c
	p.r.enterLocked(c, now)
	p.r.queue.push(c)
	return c
}

// adoptLocked gives c a slice of p's time.
func (p *pass) adoptLocked(c *call, now instant) {
	c.pass = p
	slice := p.sliceLocked(c.n, now)
	grace := min(slice/gracePart, graceLimit)
	c.until = now.after(slice)
	c.warn = c.until.after(-grace)
	c.ends = c.warn
	if !p.up {
		c.ends = c.warn.after(-min(slice/accountPart, accountLimit))
	}
	if c.lapsed {
		p.watchLocked(c, c.until)
	} else {
		p.watchLocked(c, c.warn)
	}
}

// watchLocked has the driver look at c at the given time, and no longer at an earlier one.
func (p *pass) watchLocked(c *call, at instant) {
	c.at = at
	p.due.push(c)
	if at < p.alarm {
		p.stale = true
	}
}

// sliceLocked is the time n gets from now on. Going up it is all there is, unless n has its own
// limit. Going down it is a share of what is left: with L components in the longest chain from n
// down to one without dependencies, itself included, one L-th. So a component that hangs does not
// eat the time of those below it, and time that is not used passes on. A share below least is
// raised to it, but to no more than half of what is left: in a chain of thousands, a share would be
// shorter than a pause of the garbage collector.
func (p *pass) sliceLocked(n *node, now instant) time.Duration {
	left := max(p.end.since(now), 0)
	limit := n.startTimeout
	if !p.up {
		share := left / time.Duration(max(p.r.chains[n.id], 1))
		left = max(share, min(left/2, p.least))
		limit = n.stopTimeout
	}
	if limit > 0 {
		left = min(left, limit)
	}
	return left
}

// settleLocked ends n's part in p, and begins what has waited for it. It is too early for a node
// that p has taken over and that has not had its turn.
func (p *pass) settleLocked(n *node, now instant) {
	if n.settled || !n.begun {
		return
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
			p.beginLocked(m, n, now)
		}
	}
}

// failLocked ends a pass up: nothing more is begun.
func (p *pass) failLocked(err error) {
	p.over = true
	p.errs = append(p.errs, err)
}

// cutLocked leaves p a moment to abort what is not down yet.
func (p *pass) cutLocked(now instant, cause error) {
	if p.cut {
		return
	}
	p.cut = true
	p.end = now.after(cutGrace)
	p.least = cutGrace / leastPart
	p.cancel(cause)
	if up := p.upLocked(); len(up) > 0 {
		p.errs = append(p.errs, &cutShortError{cause, up})
	}
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

// upLocked names the members that are up, or were and are not down yet.
func (p *pass) upLocked() []string {
	var names []string
	for _, n := range p.r.nodes {
		if n.comp != nil && n.pass == p && !n.settled && n.state != StateAdded && n.state != StateStopped {
			names = append(names, n.name)
		}
	}
	return names
}

// poke makes the driver of p look again.
func (p *pass) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
