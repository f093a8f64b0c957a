package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// drive watches the clock for p until all of it has settled, or, going up, until it failed. It runs
// on the goroutine that asked for the pass.
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
		timer.Reset(next.since(p.r.now()))
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ended:
			ended = nil
			p.interrupted()
		}
	}
}

// interrupted reacts to the end of the context, unless it is only the deadline that tick keeps
// anyhow.
func (p *pass) interrupted() {
	now := p.r.now()
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	cause := context.Cause(p.ctx)
	switch {
	case p.left == 0 || p.taken || now >= p.end:
	case p.up:
		p.failLocked(&interruptedError{cause})
	default:
		p.cutLocked(now, cause)
	}
}

// tick gives up what is past its time. It returns the calls whose time is nearly over, and when to
// look next.
func (p *pass) tick() (lapsed []*call, next instant, done bool) {
	now := p.r.now()
	r := p.r
	r.mu.Lock()
	for {
		at, ok := p.due.next()
		if !ok || at > now {
			break
		}
		e := p.due.pop()
		c := e.c
		switch {
		case c.pass != p || e.old():
		case !c.lapsed:
			lapsed = append(lapsed, c)
		case r.cfg.OnHang == HangPolicyHold && !p.up && now < p.end:
			p.holdLocked(c, now)
		default:
			p.giveUpLocked(c, now)
		}
	}
	if len(lapsed) == 0 {
		p.outOfTimeLocked(now)
	}
	next = p.end
	if at, ok := p.due.next(); ok && at < next {
		next = at
	}
	p.alarm, p.stale = next, false
	done = p.left == 0 || p.taken || (p.up && p.over)
	if done {
		p.due, p.calls = nil, nil
	}
	r.unlock()
	return lapsed, next, done
}

// lapse handles calls whose context has ended: it sees where they are, and calls Abort. The look at
// the goroutines stops the world for a moment, so there is one for all calls that are late
// together.
func (p *pass) lapse(late []*call) {
	stacks := p.r.stacks()
	p.r.mu.Lock()
	now := p.r.now()
	type abortion struct {
		call    *call
		aborter Aborter
	}
	var abort []abortion
	for _, c := range late {
		if c.pass != p || c.parts == 0 || c.lapsed {
			continue
		}
		c.lapsed = true
		c.oddLocked().stack = stacks[c.n.name]
		p.watchLocked(c, c.until)
		if a, ok := c.n.comp.(Aborter); ok && !p.up && c.phase != doAbort {
			c.aborting = true
			c.parts++
			abort = append(abort, abortion{c, a})
			p.r.emitLocked(slog.LevelWarn, func(i event.Info) event.Event {
				i.Elapsed = now.since(c.began)
				if p.cut {
					return &event.Aborting{Info: i, CutShort: true}
				}
				i.Stack = c.stackLocked()
				return &event.Aborting{Info: i}
			}, c)
		}
	}
	p.r.mu.Unlock()
	for _, c := range abort {
		go p.r.callAbort(c.call, c.aborter)
	}
}

// holdLocked waits for a hung call to the end of p, keeping open what it depends on.
func (p *pass) holdLocked(c *call, now instant) {
	if !c.held {
		c.held = true
		p.r.emitLocked(slog.LevelError, func(i event.Info) event.Event {
			i.Elapsed, i.Stack = now.since(c.began), c.stackLocked()
			return &event.Holding{Info: i}
		}, c)
	}
	p.watchLocked(c, p.end)
}

// giveUpLocked goes on without waiting for c any longer.
func (p *pass) giveUpLocked(c *call, now instant) {
	n := c.n
	c.givenUp, c.pass = true, nil
	outcome, err := c.outcomeLocked(now)
	p.abandonLocked(c, now, err)
	if p.up {
		n.up.took, n.up.outcome, n.up.err = now.since(c.began), outcome, err
		p.over = true
		return
	}
	n.down.took, n.down.outcome, n.down.err = now.since(n.down.began), outcome, err
	if c.held {
		p.over = true // what it depends on is held open
	}
	p.settleLocked(n, now)
}

// abandonLocked marks a component of which something may still run.
func (p *pass) abandonLocked(c *call, now instant, err error) {
	n := c.n
	p.r.becomeLocked(n, StateAbandoned, now)
	n.err = err
	p.errs = append(p.errs, err)
	p.r.emitLocked(slog.LevelError, func(i event.Info) event.Event {
		i.Elapsed, i.Stack, i.Err = now.since(c.began), c.stackLocked(), err
		return &event.Abandoned{Info: i}
	}, c)
}

// outOfTimeLocked ends a pass that holds things open: what has not had its turn by now never will.
// Under HangPolicyAbandon every component has its turn, however short, because those above it are
// given up in time.
func (p *pass) outOfTimeLocked(now instant) {
	if p.up || p.r.cfg.OnHang != HangPolicyHold || p.left == 0 || now < p.end {
		return
	}
	p.over = true
	for _, n := range p.r.nodes {
		if n.pass == p && !n.begun {
			p.heldLocked(n, now)
		}
	}
}

// heldLocked settles a component whose turn never came.
func (p *pass) heldLocked(n *node, now instant) {
	n.begun = true
	if n.comp != nil && n.state != StateStopped {
		err := &ComponentError{Name: n.name, Phase: event.PhaseStop, Err: fmt.Errorf("%w: no time was left", ErrHeld)}
		if by := p.hungAbove(n); len(by) > 0 {
			err.Err = fmt.Errorf("%w: held open for %s, which hangs", ErrHeld, quoteJoin(by, ", "))
		}
		p.r.becomeLocked(n, StateAbandoned, now)
		n.err = err
		n.down = step{outcome: event.OutcomeHeld, err: err}
		p.errs = append(p.errs, err)
		p.r.emitAboutLocked(slog.LevelError, func(i event.Info) event.Event { i.Err = err; return &event.Held{Info: i} }, n, event.PhaseStop)
	}
	p.settleLocked(n, now)
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
