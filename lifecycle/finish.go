package lifecycle

import (
	"context"
	"errors"
	"time"
)

// finish is called by each goroutine of a call when it is through. The last one tells the pass, and begins what this
// makes ready.
func (r *Registry) finish(c *call) {
	now := time.Now()
	r.mu.Lock()
	c.parts--
	if c.parts > 0 {
		r.mu.Unlock()
		return
	}
	if c.givenUp {
		r.mu.Unlock()
		r.late(c)
		return
	}
	p, n := c.pass, c.n
	var ready *call
	up := n.state == StateStarting
	if up {
		ready = r.startedLocked(c, p, now)
		up = n.state == StateUp
	} else {
		ready = r.stoppedLocked(c, p, now)
	}
	epoch, done := n.epoch, c.done
	poke := p.left == 0 || p.over || p.stale
	r.mu.Unlock()
	if up {
		r.graves.watch(n, epoch, done)
	}
	p.begin(ready)
	if poke {
		p.poke()
	}
}

// startedLocked takes the result of a Start, for the pass up or for the pass down that took over meanwhile.
func (r *Registry) startedLocked(c *call, p *pass, now time.Time) *call {
	n := c.n
	outcome, err := c.outcomeLocked(now)
	n.up.Took, n.up.Outcome, n.up.Err = now.Sub(c.began), outcome, err
	if err != nil {
		n.err = err
		r.emitLocked(levelError, func(i Info) Event { i.Elapsed, i.Err = n.up.Took, err; return &Failed{i} }, n, c.phase)
	}
	if err == nil || c.phase == PhaseHealth {
		r.becomeLocked(n, StateUp, now)
		r.emitLocked(levelInfo, func(i Info) Event { i.Elapsed = n.up.Took; return &Started{i} }, n, PhaseStart)
	} else {
		r.becomeLocked(n, StateFailed, now)
	}
	if err != nil && (!p.over || !errors.Is(err, context.Canceled)) {
		p.errs = append(p.errs, err)
	}
	switch {
	case !p.up:
		return p.beginDownLocked(n, now, nil)
	case err != nil:
		p.over = true
		return nil
	}
	return p.settleLocked(n, now, nil)
}

// stoppedLocked takes the result of a Stop or Abort.
func (r *Registry) stoppedLocked(c *call, p *pass, now time.Time) *call {
	n := c.n
	if n.state == StateAbandoned { // aborted while its Start hangs, which n.down says already
		return p.settleLocked(n, now, nil)
	}
	outcome, err := c.outcomeLocked(now)
	n.down.Took, n.down.Outcome, n.down.Err = now.Sub(n.down.Began), outcome, err
	r.becomeLocked(n, StateStopped, now)
	level := levelInfo
	if err != nil {
		n.err = err
		p.errs = append(p.errs, err)
		level = levelError
	}
	r.emitLocked(level, func(i Info) Event {
		i.Elapsed, i.Err = n.down.Took, err
		return &Stopped{Info: i, Outcome: outcome}
	}, n, c.phase)
	return p.settleLocked(n, now, nil)
}

// late takes the result of a call that was given up. A component that came up is stopped at once; one that failed to
// is discarded. The goroutine of that has no waiter but the context of the component: it is what the error of Start
// or Shutdown warned of.
func (r *Registry) late(c *call) {
	now := time.Now()
	n := c.n
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.phase != PhaseStart && c.phase != PhaseHealth {
		r.becomeLocked(n, StateStopped, now)
		r.emitLocked(levelInfo, func(i Info) Event { i.Elapsed = now.Sub(c.began); return &Late{i} }, n, c.phase)
		return
	}
	r.emitLocked(levelWarn, func(i Info) Event { i.Elapsed = now.Sub(c.began); return &Late{i} }, n, c.phase)
	limit := n.stopTimeout
	if limit <= 0 {
		limit = r.cfg.ShutdownTimeout
	}
	what := doStop
	if len(c.errs) > 0 {
		what = discard(n.comp)
	}
	stop := &call{n: n, todo: what, parts: 1, began: now, givenUp: true}
	stop.parent, stop.labels, stop.deadline = context.WithoutCancel(c.parent), n.labels, now.Add(limit)
	n.call = stop
	go stop.run(r)
}
