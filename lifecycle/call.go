package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"

	"github.com/poolkeeper/poolkeeper/health"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// call is one turn of a component in a pass: the phases it goes through on one goroutine.
//
//	up:    start, health
//	down:  drain, stop    or, for what is not up or when time is over: abort
//
// Its time is a slice of the pass's. Near the end of the slice, at ends, the context ends; a moment
// later, at warn, Abort is called; at the end, at until, the component is given up, and what comes
// back later is late. The context of Drain ends earlier, so that Stop has some of the time in any
// case.
type call struct {
	callContext

	// Guarded by Registry.mu.
	pass    *pass // whom to tell; nil once it was given up
	next    *call // in the queue
	odd     *oddities
	began   instant
	entered instant // begin of phase
	ends    instant
	warn    instant
	until   instant
	at      instant // when pass has to look at it next: warn or until
	todo    todo    // the phases ahead
	phase   todo    // the phase under way, or the last one; only the call's goroutine changes it

	checked  bool  // it has checks, to be taken out; only the call's goroutine changes it
	parts    uint8 // goroutines that are not through: the call's own, and that of Abort
	overrun  bool  // its Drain ran out of time, which Stop may make good; only the call's goroutine changes it
	lapsed   bool  // warn has passed
	aborting bool  // Abort was called because warn has passed
	givenUp  bool  // until has passed
	held     bool  // until has passed, but the policy is to hold
	runsOn   bool  // it returned, saying that something of it still runs
	neverUp  bool  // it was never started, or its start failed
	forced   bool  // it is aborted although it is up: there is no time to stop it
}

// oddities are what few calls have.
type oddities struct {
	done  <-chan error           // of a DoneNotifier; written by the call's goroutine before it is through
	gone  []*health.Registration // checks to take out before it stops
	stack string                 // what it was doing when warn passed
	errs  []error                // *ComponentError each, in order
}

func (c *call) oddLocked() *oddities {
	if c.odd == nil {
		c.odd = &oddities{}
	}
	return c.odd
}

func (c *call) errsLocked() []error {
	if c.odd == nil {
		return nil
	}
	return c.odd.errs
}

func (c *call) stackLocked() string {
	if c.odd == nil {
		return ""
	}
	return c.odd.stack
}

// todo is a set of phases, done from the lowest bit, or one of them.
type todo uint8

const (
	doStart todo = 1 << iota
	doHealth
	doDrain
	doStop
	doAbort
)

// String returns the name of a phase.
func (t todo) String() string {
	switch t {
	case doStart:
		return event.PhaseStart
	case doHealth:
		return event.PhaseHealth
	case doDrain:
		return event.PhaseDrain
	case doStop:
		return event.PhaseStop
	case doAbort:
		return event.PhaseAbort
	}
	return ""
}

// up reports whether a phase is one of the way up.
func (t todo) up() bool { return t == doStart || t == doHealth }

// Keys of the pprof labels on the goroutines of a component, those it starts included.
const (
	labelComponent = "poolkeeper.component"
	labelRegistry  = "poolkeeper.registry" // a different value for each registry of the process
)

// labelsOf returns the pprof labels of ctx as arguments of pprof.Labels.
func labelsOf(ctx context.Context) []string {
	var labels []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		labels = append(labels, key, value)
		return true
	})
	return labels
}

// unlabel takes the labels of a component off the calling goroutine: one of the registry's own,
// that may have been started from one of a component's.
func (r *Registry) unlabel() { pprof.SetGoroutineLabels(r.root) }

// labeled makes the labels of the component's goroutines: ours, and those of the context of Start.
func (r *Registry) labeled(n *node) context.Context {
	if len(r.labels) == 0 { // as good as always
		return pprof.WithLabels(r.root, pprof.Labels(labelComponent, n.name, labelRegistry, r.id))
	}
	labels := append(slices.Clip(r.labels), labelComponent, n.name, labelRegistry, r.id)
	return pprof.WithLabels(r.root, pprof.Labels(labels...))
}

// callPhase runs the phase of *at and records how it ended, whichever way it ends. Then *at is what
// to go on with on this goroutine, nil if there is nothing.
func (r *Registry) callPhase(at **call) {
	c := *at
	err := errGoexit // stays if it neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		*at = r.leave(c, err)
	}()
	err = c.callComponent(r)
	inspect(err)
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

// callAbort is the goroutine of an Abort that is called while Drain or Stop are still running.
// Owner, end and waiter are those of callComponents.
func (r *Registry) callAbort(c *call, a Aborter) {
	began := r.now()
	err := errGoexit
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		now := r.now()
		r.mu.Lock()
		if err != nil {
			odd := c.oddLocked()
			odd.errs = append(odd.errs, &ComponentError{Name: c.n.name, Phase: event.PhaseAbort, Elapsed: now.since(began), Err: err})
		}
		r.throughLocked(c, now)
		r.unlock()
	}()
	pprof.SetGoroutineLabels(c.n.labels)
	err = a.Abort()
	inspect(err)
}

// callComponent calls what the phase is about.
func (c *call) callComponent(r *Registry) error {
	n := c.n
	switch c.phase {
	case doStart:
		if c.parent.Err() != nil { // it was given up while c was in the queue
			return context.Cause(c.parent)
		}
		return n.comp.Start(&c.callContext)
	case doHealth:
		if d, ok := n.comp.(DoneNotifier); ok {
			done := d.Done()
			r.mu.Lock()
			c.oddLocked().done = done
			r.mu.Unlock()
		}
		return r.watchHealth(n)
	case doDrain, doStop, doAbort:
	}
	if c.checked {
		r.mu.Lock()
		gone := c.odd.gone
		c.odd.gone = nil
		r.mu.Unlock()
		r.unwatch(gone)
	}
	if d, ok := n.comp.(Drainer); ok && c.phase == doDrain {
		ctx := c.drainContext()
		defer func() { ctx.end(r.now()) }()
		err := d.Drain(ctx)
		c.overrun = err != nil && isTimeUp(err)
		return err
	}
	if a, ok := n.comp.(Aborter); ok && c.phase == doAbort {
		return a.Abort()
	}
	return n.comp.Stop(&c.callContext)
}

// drainContext returns the context of Drain: it leaves some of the time to Stop.
func (c *call) drainContext() *callContext {
	left := max(c.deadline.since(c.r.now()), 0)
	end := c.deadline.after(-min(left/stopPart, stopLimit))
	return &callContext{r: c.r, n: c.n, parent: &c.callContext, deadline: end}
}

// isTimeUp reports whether a drain ended because its context did.
func isTimeUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// settles reports whether a component's Stop goes on with what its Drain has not finished, and says
// what it cuts off.
func settles(c Component) bool {
	if _, ok := c.(*Server); ok {
		return true
	}
	_, pool := c.(HolderLister)
	return pool
}

// supersedeLocked drops the error of a Drain that ran out of time once Stop has given its own
// account of what was left: each holder is named once.
func (c *call) supersedeLocked(stopped error) {
	if c.phase != doStop || !c.overrun || (stopped == nil && !settles(c.n.comp)) || len(c.errsLocked()) == 0 {
		return
	}
	c.odd.errs = c.odd.errs[1:]
}

// enterLocked begins the next phase, and reports whether there is one.
func (r *Registry) enterLocked(c *call, now instant) bool {
	n := c.n
	next := c.todo & -c.todo
	if next == 0 {
		return false
	}
	c.todo &^= next
	c.phase, c.entered = next, now
	switch next {
	case doStart:
		r.emitLocked(slog.LevelDebug, func(i event.Info) event.Event { return &event.Starting{Info: i} }, c)
	case doHealth:
	case doDrain:
		r.becomeLocked(n, StateDraining, now)
		r.emitLocked(slog.LevelDebug, func(i event.Info) event.Event { return &event.Draining{Info: i} }, c)
	case doStop, doAbort:
		r.becomeLocked(n, StateStopping, now)
		r.emitLocked(slog.LevelDebug, func(i event.Info) event.Event { return &event.Stopping{Info: i} }, c)
	}
	if !next.up() && len(n.checks) > 0 {
		c.oddLocked().gone, n.checks, c.checked = n.checks, nil, true
	}
	return true
}

// leave records how a phase ended, and returns what to go on with.
func (r *Registry) leave(c *call, err error) *call {
	stack := ""
	runsOn := err != nil && (c.phase == doStop || c.phase == doDrain) && errors.Is(err, ErrStopTimeout)
	if runsOn {
		stack = r.stacks()[c.n.name]
	}
	now := r.now()
	r.mu.Lock()
	took := now.since(c.entered)
	if c.phase == doDrain {
		c.n.down.drain = took
	}
	if c.phase == doStart && (err != nil || c.givenUp || !c.pass.up) {
		c.todo = 0 // it is not up, or not for long: its health is of no interest
	}
	c.supersedeLocked(err)
	switch {
	case err != nil:
		odd := c.oddLocked()
		if runsOn {
			c.runsOn, odd.stack = true, stack
		}
		odd.errs = append(odd.errs, &ComponentError{Name: c.n.name, Phase: c.phase.String(), Elapsed: took, Err: err})
	case c.phase == doDrain:
		r.emitLocked(slog.LevelDebug, func(i event.Info) event.Event { i.Elapsed = took; return &event.Drained{Info: i} }, c)
	}
	if r.enterLocked(c, now) {
		r.mu.Unlock()
		return c
	}
	watch := r.throughLocked(c, now)
	next := r.nextLocked(now)
	r.unlock()
	c.end(now)
	if watch {
		r.graves.watch(dier{c.n, c.odd.done})
	}
	return next
}

// outcomeLocked says how a call that is over, or given up, ended.
func (c *call) outcomeLocked(now instant) (event.Outcome, error) {
	sentinel := ErrStopTimeout
	if c.phase.up() {
		sentinel = ErrStartTimeout
	}
	failure := func(err error) *ComponentError { return c.failureLocked(err, c.stackLocked(), now) }
	errs := c.errsLocked()
	switch {
	case c.givenUp:
		return event.OutcomeAbandoned, failure(withErrs(timeoutError{sentinel}, errs))
	case c.runsOn:
		return event.OutcomeAbandoned, failure(join(unwrapAll(errs)))
	case c.aborting && c.pass.cut:
		return event.OutcomeAborted, c.failureLocked(withErrs(errAbortedInHaste, errs), "", now)
	case c.aborting:
		return event.OutcomeAborted, failure(withErrs(fmt.Errorf("%w and was aborted", timeoutError{sentinel}), errs))
	case len(errs) > 0:
		return event.OutcomeFailed, join(errs)
	case c.forced:
		return event.OutcomeAborted, nil
	}
	return event.OutcomeOK, nil
}

func (c *call) failureLocked(err error, stack string, now instant) *ComponentError {
	if waitsForItself(stack) {
		err = fmt.Errorf("%w: %w", err, errWaitsForItself)
	}
	return &ComponentError{Name: c.n.name, Phase: c.phase.String(), Elapsed: now.since(c.began), Stack: stack, Err: err}
}

// withErrs adds to err what the phases returned.
func withErrs(err error, errs []error) error {
	if len(errs) == 0 {
		return err
	}
	return fmt.Errorf("%w: %w", err, join(unwrapAll(errs)))
}

// join is errors.Join without a wrapper around a single error.
func join(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// unwrapAll takes the errors out of their ComponentErrors.
func unwrapAll(errs []error) []error {
	out := make([]error, len(errs))
	for i, err := range errs {
		out[i] = err
		if ce, ok := errors.AsType[*ComponentError](err); ok {
			out[i] = ce.Err
		}
	}
	return out
}
