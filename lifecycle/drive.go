package lifecycle

import (
	"context"
	"fmt"
	"time"
)

// drive watches the clock for p until all of it has settled, or, going up, until it failed. It runs on the goroutine
// of whoever asked for the pass.
func (p *pass) drive() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ended := p.ctx.Done()
	for {
		lapsed, next, done := p.tick()
		if done {
			return
		}
		if len(lapsed) > 0 {
			p.lapse(lapsed)
			continue
		}
		timer.Reset(time.Until(next))
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ended:
			ended = nil
			p.interrupted()
		}
	}
}

// interrupted reacts to the end of the context, unless it is only the deadline that tick keeps anyhow.
func (p *pass) interrupted() {
	now := time.Now()
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	cause := context.Cause(p.ctx)
	switch {
	case p.left == 0 || !now.Before(p.end):
	case p.up:
		p.failLocked(&interruptedError{cause})
	default:
		p.errs = append(p.errs, fmt.Errorf("%w: %w", ErrAborted, cause))
		p.cutLocked(now, cause)
	}
}

// tick gives up what is past its time. It returns the calls whose time is nearly over, and when to look next.
func (p *pass) tick() (lapsed []*call, next time.Time, done bool) {
	now := time.Now()
	r := p.r
	r.mu.Lock()
	var ready *call
	for {
		at, ok := p.due.next()
		if !ok || at.After(now) {
			break
		}
		e := p.due.pop()
		c := e.c
		switch {
		case c.pass != p || c.parts == 0 || !e.at.Equal(c.at): // out of date
		case !c.lapsed:
			lapsed = append(lapsed, c)
		case r.cfg.OnHang == Hold && !p.up && now.Before(p.end):
			p.holdLocked(c)
		default:
			ready = p.giveUpLocked(c, now, ready)
		}
	}
	if len(lapsed) == 0 {
		ready = p.outOfTimeLocked(now, ready)
	}
	next = p.end
	if at, ok := p.due.next(); ok && at.Before(next) {
		next = at
	}
	p.alarm, p.stale = next, false
	done = p.left == 0 || p.taken || (p.up && p.over)
	r.mu.Unlock()
	p.begin(ready)
	return lapsed, next, done
}

// lapse handles calls whose context has ended: it sees where they are, and calls Abort. The look at the goroutines
// stops the world for a moment, so there is one for all calls that are late together.
func (p *pass) lapse(late []*call) {
	stacks := p.r.stacks()
	p.r.mu.Lock()
	var abort []*call
	for _, c := range late {
		if c.pass != p || c.parts == 0 || c.lapsed {
			continue
		}
		c.lapsed = true
		c.stack = stacks[c.n.name]
		p.watchLocked(c, c.until)
		if _, ok := c.n.comp.(Aborter); ok && !p.up && c.phase != PhaseAbort && c.todo&doAbort == 0 {
			c.aborting = true
			c.parts++
			abort = append(abort, c)
			p.r.emitLocked(levelWarn, func(i Info) Event {
				i.Elapsed = time.Since(c.began)
				return &Aborting{Info: i, Stack: c.stack}
			}, c.n, c.phase)
		}
	}
	p.r.mu.Unlock()
	for _, c := range abort {
		go c.runAbort(p.r)
	}
}

// holdLocked waits for a hung call to the end of p, keeping open what it depends on.
func (p *pass) holdLocked(c *call) {
	if !c.held {
		c.held = true
		p.r.emitLocked(levelError, func(i Info) Event {
			i.Elapsed = time.Since(c.began)
			return &Holding{Info: i, Stack: c.stack}
		}, c.n, c.phase)
	}
	p.watchLocked(c, p.end)
}

// giveUpLocked goes on without waiting for c any longer.
func (p *pass) giveUpLocked(c *call, now time.Time, ready *call) *call {
	r, n := p.r, c.n
	c.givenUp, c.pass = true, nil
	outcome, err := c.outcomeLocked(now)
	r.becomeLocked(n, StateAbandoned, now)
	n.err = err
	r.emitLocked(levelError, func(i Info) Event {
		i.Elapsed, i.Err = now.Sub(c.began), err
		return &Abandoned{Info: i, Stack: c.stack}
	}, n, c.phase)
	if p.up {
		n.up.Took, n.up.Outcome, n.up.Err = now.Sub(c.began), outcome, err
		p.failLocked(err)
		return ready
	}
	n.down.Took, n.down.Outcome, n.down.Err = now.Sub(n.down.Began), outcome, err
	p.errs = append(p.errs, err)
	if c.held {
		p.over = true // what it depends on is held open
	}
	return p.settleLocked(n, now, ready)
}

// outOfTimeLocked ends a pass whose time is over.
func (p *pass) outOfTimeLocked(now time.Time, ready *call) *call {
	if p.left == 0 || now.Before(p.end) {
		return ready
	}
	r := p.r
	switch {
	case p.up:
		if !p.over {
			p.failLocked(fmt.Errorf("lifecycle: start: %w", timeoutError{ErrStartTimeout}))
		}
		return ready
	case !p.cut && !p.over && r.cfg.OnHang != Hold:
		p.errs = append(p.errs, fmt.Errorf("%w: %w", ErrAborted, timeoutError{ErrStopTimeout}))
		p.cutLocked(now, context.DeadlineExceeded)
		return ready
	}
	p.over = true
	for _, n := range r.nodes {
		switch {
		case n.pass != p || n.settled:
		case n.begun && n.comp != nil && n.call.pass == p:
			ready = p.giveUpLocked(n.call, now, ready)
		default:
			ready = p.heldLocked(n, now, ready)
		}
	}
	return ready
}

// heldLocked settles a component whose turn never came.
func (p *pass) heldLocked(n *node, now time.Time, ready *call) *call {
	if n.comp != nil && n.state != StateStopped {
		err := &ComponentError{Name: n.name, Phase: PhaseStop, Err: ErrHeld}
		if by := p.hungAbove(n); len(by) > 0 {
			err.Err = fmt.Errorf("%w: held open for %s, which hangs", ErrHeld, quoteJoin(by, ", "))
		}
		p.r.becomeLocked(n, StateAbandoned, now)
		n.err = err
		n.down = Step{Name: n.name, Outcome: OutcomeHeld, Err: err}
		p.errs = append(p.errs, err)
		p.r.emitLocked(levelError, func(i Info) Event { i.Err = err; return &Held{i} }, n, PhaseStop)
	}
	return p.settleLocked(n, now, ready)
}

// hungAbove names the direct dependents of n that were not stopped.
func (p *pass) hungAbove(n *node) []string {
	var by []string
	for _, id := range p.r.graph.Dependents(n.id) {
		if m := p.r.nodes[id]; m.comp != nil && m.state == StateAbandoned {
			by = append(by, m.name)
		}
	}
	return by
}
