package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// throughLocked is called for each goroutine of a call that is through. The last one tells the
// pass. It reports whether a component has come up that can die.
func (r *Registry) throughLocked(c *call, now instant) (watch bool) {
	c.parts--
	switch {
	case c.parts > 0:
		return false
	case c.givenUp:
		r.lateLocked(c, now)
		return false
	}
	if c.n.call == c {
		c.n.call = nil // not to be kept for the life of the service
	}
	p := c.n.pass // not always that of c: another may have taken over, in which n has not had its turn yet
	if c.n.state == StateStarting {
		r.startedLocked(c, p, now)
		c.n.done = nil
		if c.odd != nil {
			c.n.done = c.odd.done
		}
		watch = c.n.done != nil
	} else {
		r.stoppedLocked(c, p, now)
	}
	if p.left == 0 || p.over || p.stale {
		p.poke()
	}
	return watch
}

// startedLocked takes the result of a Start, for the pass up or for the pass down that took over
// meanwhile.
func (r *Registry) startedLocked(c *call, p *pass, now instant) {
	n := c.n
	outcome, err := c.outcomeLocked(now)
	n.up.took, n.up.outcome, n.up.err = now.since(c.began), outcome, err
	if err != nil {
		n.err = err
		level := slog.LevelError
		if obeyed(c, err) {
			level = slog.LevelDebug
		}
		r.emitLocked(level, func(i event.Info) event.Event {
			i.Elapsed, i.Err = n.up.took, err
			return &event.Failed{Info: i, Cancelled: level == slog.LevelDebug}
		}, c)
	}
	if err == nil || c.phase == doHealth {
		r.becomeLocked(n, StateUp, now)
		r.emitAboutLocked(slog.LevelInfo, func(i event.Info) event.Event { i.Elapsed = n.up.took; return &event.Started{Info: i} }, n, event.PhaseStart)
	} else {
		r.becomeLocked(n, StateFailed, now)
	}
	p.noteStartLocked(c, err)
	switch {
	case !n.begun:
	case !p.up:
		p.beginDownLocked(n, now)
	case err != nil:
		p.over = true
	default:
		p.settleLocked(n, now)
	}
}

// noteStartLocked keeps the error of a start, unless it failed only because it was told to.
func (p *pass) noteStartLocked(c *call, err error) {
	if p.up && !p.over && told(c) {
		p.failLocked(&interruptedError{context.Cause(c.parent)}) // the driver is about to find out
	}
	if err != nil && !obeyed(c, err) {
		p.errs = append(p.errs, err)
	}
}

// told reports whether a start was told to give up. A deadline does not count: what misses it is to
// blame.
func told(c *call) bool { return errors.Is(c.parent.Err(), context.Canceled) }

// obeyed reports whether a start failed only because it was told to.
func obeyed(c *call, err error) bool {
	return told(c) && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(c.parent)))
}

// errRolledBack is the cause with which the contexts of what is starting end when something else
// has failed to.
var errRolledBack = errors.New("lifecycle: start is being rolled back")

// stoppedLocked takes the result of a Stop or Abort.
func (r *Registry) stoppedLocked(c *call, p *pass, now instant) {
	n := c.n
	if n.state == StateAbandoned { // aborted while its Start hangs, which n.down says already
		p.settleLocked(n, now)
		return
	}
	outcome, err := c.outcomeLocked(now)
	n.down.took, n.down.outcome, n.down.err = now.since(n.down.began), outcome, err
	if outcome == event.OutcomeAbandoned {
		p.abandonLocked(c, now, err)
		p.settleLocked(n, now)
		return
	}
	r.becomeLocked(n, StateStopped, now)
	level := slog.LevelInfo
	if err != nil {
		n.err = err
		p.errs = append(p.errs, err)
		level = slog.LevelError
	}
	r.emitLocked(level, func(i event.Info) event.Event {
		i.Elapsed, i.Err = n.down.took, err
		return &event.Stopped{Info: i, Outcome: outcome, NeverUp: c.neverUp}
	}, c)
	p.settleLocked(n, now)
}

// lateLocked takes the result of a call that was given up. A component that came up is stopped at
// once; one that failed to is discarded. Only the component's context waits for that. The error of
// Start or Shutdown has warned of it.
func (r *Registry) lateLocked(c *call, now instant) {
	n := c.n
	r.emitLocked(slog.LevelWarn, func(i event.Info) event.Event { i.Elapsed = now.since(c.began); return &event.Late{Info: i} }, c)
	if !c.phase.up() {
		r.becomeLocked(n, StateStopped, now)
		return
	}
	limit := n.stopTimeout
	if limit <= 0 {
		limit = cmp.Or(r.cfg.ShutdownTimeout, defaultShutdownTimeout)
	}
	stop := &call{todo: doStop, parts: 1, began: now, givenUp: true}
	if len(c.errsLocked()) > 0 {
		stop.todo = discard(n.comp)
	}
	stop.r, stop.n, stop.parent, stop.deadline = r, n, context.WithoutCancel(c.parent), now.after(limit)
	n.call = stop
	r.enterLocked(stop, now)
	r.queue.push(stop)
}

// becomeLocked makes n's state next if that may follow, and reports whether it did.
func (r *Registry) becomeLocked(n *node, next State, now instant) bool {
	if !n.state.canBecome(next) {
		return false
	}
	n.state, n.since = next, now
	return true
}
