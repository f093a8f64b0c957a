package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"runtime/pprof"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// call is a component's part in a walk: the phases it goes through, on a goroutine of its own.
//
//	up:    start, health
//	down:  drain, stop    or, for what is not up or when time is over: abort
//
// It has a share of the walk's time. Near the end of it, at ends, the component's context ends. A
// moment later, at warn, Abort is called. At the end, at until, the component is given up, and what
// comes back later is late. The context of Drain ends earlier, so that Stop has some of the time in
// any case.
//
// A call is the parent of the component's context: the walk's, with the component's labels.
type call struct {
	context.Context //nolint:containedctx // it is one

	r      *Registry
	n      *node
	ends   time.Time       // when the component's context ends
	ctx    context.Context //nolint:containedctx // the component's; only the call's goroutine uses it
	cancel context.CancelFunc

	// Guarded by Registry.mu.
	walk    *walk // nil once it was given up
	next    *call // in calls
	began   time.Time
	entered time.Time // begin of phase
	warn    time.Time
	until   time.Time
	at      time.Time // when check has to look at it next: warn or until
	stack   string    // what it was doing when warn passed
	errs    []error   // *ComponentError each, in order

	phase  string                 // the phase under way, or the last one; only the call's goroutine changes it
	ahead  []string               // the phases ahead
	died   <-chan error           // of a DoneNotifier; written by the call's goroutine before it is through
	checks []*health.Registration // to take out before it stops; only the call's goroutine changes it

	parts    uint8 // goroutines that are not through: the call's own, and that of Abort
	through  bool  // the last phase is over; only the call's goroutine uses it
	overrun  bool  // its Drain ran out of time, which Stop may make good; only the call's goroutine changes it
	lapsed   bool  // warn has passed
	aborting bool  // Abort was called because warn has passed
	givenUp  bool  // until has passed
	held     bool  // until has passed, but the policy is to hold
	runsOn   bool  // it returned, saying that something of it still runs
	neverUp  bool  // it was never started, or its start failed
	forced   bool  // it is aborted although it is up: there is no time to stop it
}

// Value returns the labels of the component, so that goroutines which it labels keep ours, and the
// values of the walk's context.
func (c *call) Value(key any) any {
	if v := c.n.labels.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// beginLocked enters the first phase. Owner of the goroutine: the registry. It ends when the
// component's functions have returned, whose contexts end; the walk waits for it until it gives the
// component up.
func (c *call) beginLocked(now time.Time) {
	c.n.call = c
	c.enterLocked(now)
	c.r.begun.add(c)
}

// calls is a list of calls that were begun and do not run yet.
type calls struct{ first, last *call }

func (l *calls) add(c *call) {
	if l.first == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

// unlock unlocks Registry.mu and runs the calls that were begun under it: before, their goroutines
// would only wait for it. It is how the lock is left wherever calls may have been begun.
func (r *Registry) unlock() {
	begun := r.begun
	r.begun = calls{}
	r.mu.Unlock()
	for c := begun.first; c != nil; {
		next := c.next
		c.next = nil // not to be kept by c
		go c.run()
		c = next
	}
}

// run goes through the phases.
//
//nolint:contextcheck,nolintlint // c has the context; nolintlint does not see the use
func (c *call) run() {
	defer c.resume()
	pprof.SetGoroutineLabels(c.n.labels)
	if c.ctx == nil {
		c.ctx, c.cancel = c.newContext()
	}
	for !c.through {
		c.leave(c.callPhase())
	}
}

// newContext returns the component's context. It needs no timer of its own if that of the walk will
// do.
func (c *call) newContext() (context.Context, context.CancelFunc) {
	if end, ok := c.Deadline(); ok && end.Equal(c.ends) {
		return context.WithCancel(c)
	}
	return context.WithDeadline(c, c.ends)
}

// resume does the rest on another goroutine if the component has called runtime.Goexit.
func (c *call) resume() {
	if c.through {
		return
	}
	c.leave(errGoexit)
	if !c.through {
		go c.run()
	}
}

// callPhase runs a phase. A panic becomes an error.
func (c *call) callPhase() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
	}()
	err = c.callComponent()
	inspect(err)
	return err
}

// inspect calls the methods of a component's error that the registry calls later, under its lock
// and on goroutines of its own. One that panics, such as a nil pointer in an error, does so here,
// where the component is to blame.
func inspect(err error) {
	if err != nil {
		_ = err.Error()
		_ = errors.Is(err, ErrStopTimeout)
	}
}

// callComponent calls what the phase is about.
func (c *call) callComponent() error {
	n := c.n
	switch c.phase {
	case event.PhaseStart:
		if c.cancelled() { // before this goroutine began
			return context.Cause(c.Context)
		}
		return n.comp.Start(c.ctx)
	case event.PhaseHealth:
		if d, ok := n.comp.(DoneNotifier); ok {
			died := d.Done()
			c.r.mu.Lock()
			c.died = died
			c.r.mu.Unlock()
		}
		return c.r.watchHealth(n)
	}
	removeChecks(c.ctx, c.checks)
	c.checks = nil
	if d, ok := n.comp.(Drainer); ok && c.phase == event.PhaseDrain {
		ctx, cancel := c.drainContext()
		defer cancel()
		err := d.Drain(ctx)
		c.overrun = errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
		return err
	}
	if a, ok := n.comp.(Aborter); ok && c.phase == event.PhaseAbort {
		return a.Abort()
	}
	return n.comp.Stop(c.ctx)
}

// drainContext returns the context of Drain: it leaves some of the time to Stop.
func (c *call) drainContext() (context.Context, context.CancelFunc) {
	end, _ := c.ctx.Deadline()
	left := max(time.Until(end), 0)
	return context.WithDeadline(c.ctx, end.Add(-min(left/stopPart, stopLimit)))
}

// callAbort is the goroutine of an Abort that is called while Drain or Stop are still running. Its
// owner, end and waiter are those of run.
func (c *call) callAbort(a Aborter) {
	began := time.Now()
	err := errGoexit
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		now := time.Now()
		c.r.mu.Lock()
		defer c.r.unlock()
		if err != nil {
			c.errs = append(c.errs, &ComponentError{Name: c.n.name, Phase: event.PhaseAbort, Elapsed: now.Sub(began), Err: err})
		}
		if w := c.partLocked(now); w != nil {
			w.advanceLocked(now)
		}
	}()
	pprof.SetGoroutineLabels(c.n.labels)
	err = a.Abort()
	inspect(err)
}

// enterLocked begins the next phase, and reports whether there is one.
func (c *call) enterLocked(now time.Time) bool {
	if len(c.ahead) == 0 {
		return false
	}
	r, n := c.r, c.n
	c.phase, c.ahead, c.entered = c.ahead[0], c.ahead[1:], now
	switch c.phase {
	case event.PhaseStart:
		r.emitLocked(slog.LevelDebug, n, c.phase, func(i event.Info) event.Event { return &event.Starting{Info: i} })
	case event.PhaseDrain:
		r.becomeLocked(n, StateDraining, now)
		r.emitLocked(slog.LevelDebug, n, c.phase, func(i event.Info) event.Event { return &event.Draining{Info: i} })
	case event.PhaseStop, event.PhaseAbort:
		r.becomeLocked(n, StateStopping, now)
		r.emitLocked(slog.LevelDebug, n, c.phase, func(i event.Info) event.Event { return &event.Stopping{Info: i} })
	}
	if !c.goesUp() {
		c.checks, n.checks = append(c.checks, n.checks...), nil
	}
	return true
}

// goesUp reports whether the phase is one of the way up.
func (c *call) goesUp() bool { return c.phase == event.PhaseStart || c.phase == event.PhaseHealth }

// leave records how a phase ended.
func (c *call) leave(err error) {
	stack := ""
	runsOn := err != nil && (c.phase == event.PhaseStop || c.phase == event.PhaseDrain) && errors.Is(err, ErrStopTimeout)
	if runsOn {
		stack = c.r.stacks()[c.n.name]
	}
	now := time.Now()
	c.r.mu.Lock()
	defer c.r.unlock()
	c.phaseOverLocked(err, runsOn, stack, now)
	if c.enterLocked(now) {
		return
	}
	c.through = true
	c.cancel()
	if w := c.partLocked(now); w != nil {
		w.advanceLocked(now)
	}
}

// phaseOverLocked keeps what came of a phase.
func (c *call) phaseOverLocked(err error, runsOn bool, stack string, now time.Time) {
	took := now.Sub(c.entered)
	if c.phase == event.PhaseDrain {
		c.n.down.drain = took
	}
	if c.phase == event.PhaseStart && (err != nil || c.givenUp || !c.walk.up) {
		c.ahead = nil // it is not up, or not for long: its health is of no interest
	}
	c.supersedeLocked(err)
	switch {
	case err != nil:
		if runsOn {
			c.runsOn, c.stack = true, stack
		}
		c.errs = append(c.errs, &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: took, Err: err})
	case c.phase == event.PhaseDrain:
		c.r.emitLocked(slog.LevelDebug, c.n, c.phase, func(i event.Info) event.Event {
			i.Elapsed = took
			return &event.Drained{Info: i}
		})
	}
}
