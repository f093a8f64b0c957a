package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

const (
	// graceLimit and gracePart give what is kept back of a component's time for Abort, and for it
	// to return after its context has ended: an eighth, at most 100 ms.
	graceLimit = 100 * time.Millisecond
	gracePart  = 8

	// cleanupLimit and cleanupPart give how long before Abort the context ends on the way down: a
	// component that heeds its context has this time to cut off what is left and to say what that
	// was. An eighth of its time, at most 150 ms.
	cleanupLimit = 150 * time.Millisecond
	cleanupPart  = 8

	// stopLimit and stopPart give what Drain leaves to Stop: a quarter of the time, at most 2 s.
	stopLimit = 2 * time.Second
	stopPart  = 4

	// minShareLimit and minSharePart give the least a component gets on the way down: a twentieth
	// of all there is, at most 250 ms, which is more than a container without CPU time left usually
	// has to wait for more.
	minShareLimit = 250 * time.Millisecond
	minSharePart  = 20

	// cutGrace is the time for aborting everything after a shutdown was cut short.
	cutGrace = 100 * time.Millisecond
)

// deadline is that of ctx, or limit from now if that is earlier. Without either it is otherwise
// from now.
func deadline(ctx context.Context, limit, otherwise time.Duration) time.Time {
	d, ok := ctx.Deadline()
	if ok && limit <= 0 {
		return d
	}
	if limit <= 0 {
		limit = otherwise
	}
	if end := time.Now().Add(limit); !ok || end.Before(d) {
		return end
	}
	return d
}

// scheduleLocked gives c its share of w's time, and returns when the component's context ends in
// it.
func (w *walk) scheduleLocked(c *call, now time.Time) (ends time.Time) {
	c.walk = w
	share := w.shareLocked(c.n, now)
	c.until = now.Add(share)
	c.warn = c.until.Add(-min(share/gracePart, graceLimit))
	if c.lapsed {
		w.watchLocked(c, c.until)
	} else {
		w.watchLocked(c, c.warn)
	}
	if w.up {
		return c.warn
	}
	return c.warn.Add(-min(share/cleanupPart, cleanupLimit))
}

// shareLocked is the time n gets from now on. Going up it is all there is, unless n has its own
// limit. Going down it is a share of what is left: with L components in the longest chain from n
// down to one without dependencies, itself included, one L-th. So a component that hangs does not
// eat the time of those below it, and time that is not used passes on. A share below minShare is
// raised to it, but to no more than half of what is left: in a chain of thousands, a share would be
// shorter than a pause of the garbage collector.
func (w *walk) shareLocked(n *node, now time.Time) time.Duration {
	left := max(w.end.Sub(now), 0)
	limit := n.startTimeout
	if !w.up {
		share := left / time.Duration(max(w.r.chains[n.id], 1))
		left = max(share, min(left/2, w.minShare))
		limit = n.stopTimeout
	}
	if limit > 0 {
		left = min(left, limit)
	}
	return left
}

// watchLocked has check look at c at the given time, and no longer at an earlier one.
func (w *walk) watchLocked(c *call, at time.Time) {
	c.at = at
	if at.Before(w.alarm) {
		w.alarm = at
		w.poke()
	}
}

// waitUntilDone returns when all of w is done, or, going up, when it failed. Meanwhile it watches
// the deadlines. It runs on the goroutine that asked for the walk.
func (w *walk) waitUntilDone() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ended := w.ctx.Done()
	for {
		late, next, done := w.check()
		if done {
			return
		}
		if len(late) > 0 {
			w.lapse(late)
			continue
		}
		timer.Reset(time.Until(next))
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ended:
			ended = nil
			w.interrupted()
		}
	}
}

// interrupted reacts to the end of the context, unless it is only the deadline that check keeps
// anyhow.
func (w *walk) interrupted() {
	now := time.Now()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	cause := context.Cause(w.ctx)
	switch {
	case w.left == 0 || w.taken || !now.Before(w.end):
	case w.up:
		w.failLocked(&interruptedError{cause})
	default:
		w.cutLocked(now, cause)
	}
}

// check gives up what is past its time. It returns the calls whose time is nearly over, and when to
// look next.
func (w *walk) check() (late []*call, next time.Time, done bool) {
	now := time.Now()
	w.r.mu.Lock()
	defer w.r.unlock()
	w.alarm = w.end
	for _, n := range w.members {
		c := n.call
		switch {
		case c == nil || c.walk != w:
		case c.at.After(now):
			if c.at.Before(w.alarm) {
				w.alarm = c.at
			}
		case !c.lapsed:
			late = append(late, c)
		case w.r.tuned.Load().OnHang == HangPolicyHold && !w.up && now.Before(w.end):
			w.holdLocked(c, now)
		default:
			w.giveUpLocked(c, now)
		}
	}
	if len(late) == 0 {
		w.outOfTimeLocked(now)
	}
	w.advanceLocked(now)
	return late, w.alarm, w.left == 0 || w.taken || (w.up && w.over)
}

// lapse handles calls whose context has ended: it sees where they are, and calls Abort. The look at
// the goroutines stops the world for a moment, so there is one for all calls that are late
// together.
func (w *walk) lapse(late []*call) {
	stacks := w.r.stacks()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	now := time.Now()
	for _, c := range late {
		if c.walk != w || c.parts == 0 || c.lapsed {
			continue
		}
		c.lapsed, c.stack = true, stacks[c.n.name]
		w.watchLocked(c, c.until)
		a, ok := c.n.comp.(Aborter)
		if !ok || w.up || c.phase == event.PhaseAbort {
			continue
		}
		c.aborting = true
		c.parts++
		w.r.emitLocked(slog.LevelWarn, c.n, c.phase, func(i event.Info) event.Event {
			i.Elapsed = now.Sub(c.began)
			if !w.cut {
				i.Stack = c.stack
			}
			return &event.Aborting{Info: i, CutShort: w.cut}
		})
		go c.callAbort(a)
	}
}

// holdLocked waits for a hung call to the end of w, keeping open what it depends on.
func (w *walk) holdLocked(c *call, now time.Time) {
	if !c.held {
		c.held = true
		w.r.emitLocked(slog.LevelError, c.n, c.phase, func(i event.Info) event.Event {
			i.Elapsed, i.Stack = now.Sub(c.began), c.stack
			return &event.Holding{Info: i}
		})
	}
	w.watchLocked(c, w.end)
}

// giveUpLocked goes on without waiting for c any longer.
func (w *walk) giveUpLocked(c *call, now time.Time) {
	n := c.n
	c.givenUp, c.walk = true, nil
	outcome, err := c.outcomeLocked(now)
	w.abandonLocked(c, now, err)
	if w.up {
		n.up.took, n.up.outcome, n.up.err = now.Sub(c.began), outcome, err
		w.over = true
		return
	}
	n.down.took, n.down.outcome, n.down.err = now.Sub(n.down.began), outcome, err
	if c.held {
		w.over = true // what it depends on is held open
	}
	w.doneLocked(n)
}

// outOfTimeLocked ends a walk that holds things open: what has not begun by now never will. Under
// HangPolicyAbandon every component begins, however late, because those above it are given up in
// time.
func (w *walk) outOfTimeLocked(now time.Time) {
	if w.up || w.r.tuned.Load().OnHang != HangPolicyHold || w.left == 0 || now.Before(w.end) {
		return
	}
	w.over = true
	for _, n := range w.members {
		if n.walk == w && !n.begun {
			w.heldLocked(n, now)
		}
	}
}

// cutLocked leaves w a moment to abort what is not down yet.
func (w *walk) cutLocked(now time.Time, cause error) {
	if w.cut {
		return
	}
	w.cut = true
	w.end = now.Add(cutGrace)
	w.minShare = cutGrace / minSharePart
	w.cancel(cause)
	if up := w.upLocked(); len(up) > 0 {
		w.errs = append(w.errs, &cutShortError{cause, up})
	}
	for _, n := range w.members {
		if c := n.call; n.walk == w && n.begun && !n.done && c != nil && c.walk == w {
			w.scheduleLocked(c, now)
			if !c.lapsed {
				c.warn = now
				w.watchLocked(c, now)
			}
		}
	}
}

// abandonLocked marks a component of which something may still run.
func (w *walk) abandonLocked(c *call, now time.Time, err error) {
	n := c.n
	w.r.becomeLocked(n, StateAbandoned, now)
	n.err = err
	w.errs = append(w.errs, err)
	w.r.emitLocked(slog.LevelError, n, c.phase, func(i event.Info) event.Event {
		i.Elapsed, i.Stack, i.Err = now.Sub(c.began), c.stack, err
		return &event.Abandoned{Info: i}
	})
}

// heldLocked ends with a component that was never begun with.
func (w *walk) heldLocked(n *node, now time.Time) {
	n.begun = true
	if n.comp != nil && n.state != StateStopped {
		err := &ComponentError{Name: n.name, Phase: event.PhaseStop, Err: fmt.Errorf("%w: no time was left", ErrHeld)}
		if by := w.hungAbove(n); len(by) > 0 {
			err.Err = fmt.Errorf("%w: held open for %s, which hangs", ErrHeld, quoteJoin(by, ", "))
		}
		w.r.becomeLocked(n, StateAbandoned, now)
		n.err = err
		n.down = step{outcome: event.OutcomeHeld, err: err}
		w.errs = append(w.errs, err)
		w.r.emitLocked(slog.LevelError, n, event.PhaseStop, func(i event.Info) event.Event {
			i.Err = err
			return &event.Held{Info: i}
		})
	}
	w.doneLocked(n)
}

// hungAbove names the direct dependents of n that were not stopped.
func (w *walk) hungAbove(n *node) []string {
	var by []string
	for _, id := range w.r.graph.Dependents(n.id) {
		if m := w.r.nodes[id]; m.comp != nil && m.state == StateAbandoned {
			by = append(by, m.name)
		}
	}
	return by
}
