package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// call is one turn of a component in a pass: the phases it goes through on one goroutine.
//
//	up:    start, health
//	down:  drain, stop    or, for what is not up or when time is over: abort
//
// Its time is a slice of the pass's. Near the end of the slice, at warn, the context ends and Abort is called; at the
// end, at until, the component is given up, and what comes back later is late.
type call struct {
	callContext

	n *node

	// Written by the call's goroutine, read when it is through.
	done <-chan error // of a Dier that has come up

	// Guarded by Registry.mu.
	pass     *pass // whom to tell; nil once it was given up
	next     *call // in the queue
	todo     todo
	phase    string // the phase under way, or the last one
	began    instant
	entered  instant                // begin of phase
	watched  []*health.Registration // checks to take out before the phase
	warn     instant
	until    instant
	at       instant // when pass has to look at it next: warn or until
	parts    int     // goroutines that are not through: the call's own, and that of Abort
	lapsed   bool    // warn has passed
	aborting bool    // Abort was called because warn has passed
	givenUp  bool    // until has passed
	held     bool    // until has passed, but the policy is to hold
	runsOn   bool    // it returned, saying that something of it still runs
	forced   bool    // it is aborted although it is up: there is no time to stop it
	stack    string  // what it was doing when warn passed
	errs     []error // *ComponentError each, in order
}

// todo is the set of phases ahead, done from the lowest bit.
type todo uint8

const (
	doStart todo = 1 << iota
	doHealth
	doDrain
	doStop
	doAbort
)

// Keys of the pprof labels on the goroutines of a component, those it starts included.
const (
	LabelComponent = "poolkeeper.component"
	LabelRegistry  = "poolkeeper.registry" // a different value for each registry of the process
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

// unlabel takes the labels of a component off the calling goroutine: one of the registry's own, that may have been
// started from one of a component's.
func (r *Registry) unlabel() { pprof.SetGoroutineLabels(r.root) }

// labeled makes the labels of the component's goroutines: ours, and those of the context of Start.
func (r *Registry) labeled(n *node) context.Context {
	labels := append(slices.Clip(r.labels), LabelComponent, n.name, LabelRegistry, r.id)
	return pprof.WithLabels(r.root, pprof.Labels(labels...))
}

// callPhase runs the phase of *at and records how it ended, whichever way it ends. Then *at is what to go on with on
// this goroutine, nil if there is nothing.
func (r *Registry) callPhase(at **call) {
	c := *at
	err := ErrGoexit // stays if it neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		*at = r.leave(c, err)
	}()
	err = c.callComponent(r)
}

// callAbort is the goroutine of an Abort that is called while Drain or Stop are still running. Owner, end and waiter
// are those of callComponents.
func (r *Registry) callAbort(c *call, a Aborter) {
	began := r.now()
	err := ErrGoexit
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		now := r.now()
		r.mu.Lock()
		if err != nil {
			c.errs = append(c.errs, &ComponentError{Name: c.n.name, Phase: PhaseAbort, Elapsed: now.since(began), Err: err})
		}
		r.throughLocked(c, now)
		r.unlock()
	}()
	pprof.SetGoroutineLabels(c.labels)
	err = a.Abort()
}

// callComponent calls what the phase is about.
func (c *call) callComponent(r *Registry) error {
	switch c.phase { // only changed on this goroutine
	case PhaseStart:
		if c.parent.Err() != nil { // it was given up while c was in the queue
			return context.Cause(c.parent)
		}
		return c.n.comp.Start(&c.callContext)
	case PhaseHealth:
		if d, ok := c.n.comp.(Dier); ok {
			c.done = d.Done()
		}
		return r.watchHealth(c.n)
	case PhaseDrain:
		r.unwatch(c.watched)
		if d, ok := c.n.comp.(Drainer); ok {
			return d.Drain(&c.callContext)
		}
		return nil
	case PhaseStop:
		r.unwatch(c.watched)
		return c.n.comp.Stop(&c.callContext)
	}
	r.unwatch(c.watched) // PhaseAbort
	if a, ok := c.n.comp.(Aborter); ok {
		return a.Abort()
	}
	return nil
}

// enterLocked begins the next phase, and reports whether there is one.
func (r *Registry) enterLocked(c *call, now instant) bool {
	n := c.n
	c.entered = now
	switch next := c.todo & -c.todo; next {
	case 0:
		return false
	case doStart:
		c.phase = PhaseStart
		r.emitLocked(levelDebug, func(i Info) Event { return &Starting{i} }, n, PhaseStart)
	case doHealth:
		c.phase = PhaseHealth
	case doDrain:
		c.phase = PhaseDrain
		r.becomeLocked(n, StateDraining, now)
		r.emitLocked(levelDebug, func(i Info) Event { return &Draining{i} }, n, PhaseDrain)
	case doStop, doAbort:
		c.phase = PhaseStop
		if next == doAbort {
			c.phase = PhaseAbort
		}
		r.becomeLocked(n, StateStopping, now)
		r.emitLocked(levelDebug, func(i Info) Event { return &Stopping{i} }, n, c.phase)
	}
	c.todo &= c.todo - 1
	if c.phase != PhaseStart && c.phase != PhaseHealth {
		c.watched, n.checks = n.checks, nil
	}
	return true
}

// leave records how a phase ended, and returns what to go on with.
func (r *Registry) leave(c *call, err error) *call {
	stack := ""
	runsOn := err != nil && (c.phase == PhaseStop || c.phase == PhaseDrain) && errors.Is(err, ErrStopTimeout)
	if runsOn {
		stack = r.stacks()[c.n.name]
	}
	now := r.now()
	r.mu.Lock()
	took := now.since(c.entered)
	if c.phase == PhaseDrain {
		c.n.down.drain = took
	}
	if c.phase == PhaseStart && (err != nil || c.givenUp || !c.pass.up) {
		c.todo = 0 // it is not up, or not for long: its health is of no interest
	}
	switch {
	case err != nil:
		if runsOn {
			c.runsOn, c.stack = true, stack
		}
		c.errs = append(c.errs, &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: took, Err: err})
	case c.phase == PhaseDrain:
		r.emitLocked(levelDebug, func(i Info) Event { i.Elapsed = took; return &Drained{i} }, c.n, PhaseDrain)
	}
	if r.enterLocked(c, now) {
		r.mu.Unlock()
		return c
	}
	watch := r.throughLocked(c, now)
	next := r.nextLocked(now)
	r.unlock()
	c.end(now >= c.warn)
	if watch {
		r.graves.watch(dier{c.n, c.done})
	}
	return next
}

// outcomeLocked says how a call that is over, or given up, ended.
func (c *call) outcomeLocked(now instant) (Outcome, error) {
	sentinel := ErrStopTimeout
	if c.phase == PhaseStart || c.phase == PhaseHealth {
		sentinel = ErrStartTimeout
	}
	failure := func(err error) *ComponentError {
		return &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: now.since(c.began), Stack: c.stack, Err: err}
	}
	switch {
	case c.givenUp:
		return OutcomeAbandoned, failure(c.withErrs(timeoutError{sentinel}))
	case c.runsOn:
		return OutcomeAbandoned, failure(join(unwrapAll(c.errs)))
	case c.aborting:
		return OutcomeAborted, failure(c.withErrs(fmt.Errorf("%w and was aborted", timeoutError{sentinel})))
	case len(c.errs) > 0:
		return OutcomeFailed, join(c.errs)
	case c.forced:
		return OutcomeAborted, nil
	}
	return OutcomeOK, nil
}

// withErrs adds to err what the phases returned.
func (c *call) withErrs(err error) error {
	if len(c.errs) == 0 {
		return err
	}
	return fmt.Errorf("%w: %w", err, join(unwrapAll(c.errs)))
}

// panicStack is the stack of a panic, from the frame that panicked outwards to where we called the component.
func panicStack() string {
	frames := goroutines.Callers(0)
	for len(frames) > 1 && isOurs(frames[0]) {
		frames = frames[1:] // the deferred function that recovers
	}
	return goroutines.Print(untilOurs(frames))
}

// untilOurs cuts a stack where the registry has called the component.
func untilOurs(frames []goroutines.Frame) []goroutines.Frame {
	if i := slices.IndexFunc(frames, isOurs); i >= 0 {
		return frames[:i]
	}
	return frames
}

// isOurs reports whether a function is the machinery that calls components.
func isOurs(f goroutines.Frame) bool {
	name, ok := strings.CutPrefix(f.Function, "github.com/poolkeeper/poolkeeper/lifecycle.")
	return ok && (strings.HasPrefix(name, "(*Registry).call") || strings.HasPrefix(name, "(*call).callComponent") ||
		strings.HasPrefix(name, "(*workerRun).work") || strings.HasPrefix(name, "panicStack"))
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
