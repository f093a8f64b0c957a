package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// call is one turn of a component in a pass: the phases it goes through on a goroutine of its own.
//
//	up:    start, health
//	down:  drain, stop    or, for what is not up or when time is over: abort
//
// Its time is a slice of the pass's. Near the end of the slice, at warn, the context ends and Abort is called; at the
// end, at until, the component is given up, and what comes back later is late.
type call struct {
	callContext

	n    *node
	done <-chan error // of a Dier; written by the call's goroutine before it finishes

	// Guarded by Registry.mu.
	pass     *pass // whom to tell; nil once it was given up
	ready    *call // the next in a list of calls to be begun
	todo     todo
	phase    string // the phase under way
	began    time.Time
	entered  time.Time // begin of phase
	warn     time.Time
	until    time.Time
	at       time.Time // when pass has to look at it next: warn or until
	parts    int       // goroutines that have not finished: the call's own, and that of Abort
	lapsed   bool      // warn has passed
	aborting bool      // Abort was called because warn has passed
	givenUp  bool      // until has passed
	held     bool      // until has passed, but the policy is to hold
	stack    string    // what it was doing when warn passed
	errs     []error   // *ComponentError each, in order
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

// labeled makes the labels of the component's goroutines, once.
func (r *Registry) labeled(n *node) context.Context {
	//nolint:forbidigo // not a root of anything: it only carries labels
	return pprof.WithLabels(context.Background(), pprof.Labels(LabelComponent, n.name, LabelRegistry, r.id))
}

// run goes through the phases. It is a goroutine of its own: owned by the pass, ended by the component's functions
// returning (their contexts end), waited for by the pass until it is given up. If the component calls runtime.Goexit,
// the rest is done on another goroutine.
func (c *call) run(r *Registry) {
	whole := false
	defer func() {
		if !whole {
			go c.run(r)
		}
	}()
	pprof.SetGoroutineLabels(c.labels)
	for phase := c.enter(r); phase != ""; phase = c.enter(r) {
		c.invoke(r, phase)
	}
	whole = true
	c.end()
	r.finish(c)
}

// runAbort is the goroutine of an Abort that is called while Drain or Stop are still running. Owner, end and waiter
// are those of run.
func (c *call) runAbort(r *Registry) {
	defer r.finish(c) // after runtime.Goexit, too
	pprof.SetGoroutineLabels(c.labels)
	c.invoke(r, PhaseAbort)
}

// enter begins the next phase and returns its name, or "" if there is none.
func (c *call) enter(r *Registry) string {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := c.n
	switch {
	case c.todo&doStart != 0:
		c.todo &^= doStart
		c.phase = PhaseStart
		r.emitLocked(levelDebug, func(i Info) Event { return &Starting{i} }, n, PhaseStart)
	case c.todo&doHealth != 0:
		c.todo &^= doHealth
		c.phase = PhaseHealth
	case c.todo&doDrain != 0:
		c.todo &^= doDrain
		c.phase = PhaseDrain
		r.becomeLocked(n, StateDraining, now)
		r.emitLocked(levelDebug, func(i Info) Event { return &Draining{i} }, n, PhaseDrain)
	case c.todo&doStop != 0:
		c.todo &^= doStop
		c.phase = PhaseStop
		r.becomeLocked(n, StateStopping, now)
		r.emitLocked(levelDebug, func(i Info) Event { return &Stopping{i} }, n, PhaseStop)
	case c.todo&doAbort != 0:
		c.todo &^= doAbort
		c.phase = PhaseAbort
		r.becomeLocked(n, StateStopping, now)
		r.emitLocked(levelDebug, func(i Info) Event { return &Stopping{i} }, n, PhaseAbort)
	default:
		return ""
	}
	c.entered = now
	return c.phase
}

// invoke runs one phase function and records how it ended, whichever way it ends.
func (c *call) invoke(r *Registry, phase string) {
	began := time.Now()
	err := error(ErrGoexit) // stays if it neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: panicStack()}
		}
		if err != nil {
			r.failed(c, phase, time.Since(began), err)
		} else {
			r.passed(c, phase, time.Since(began))
		}
	}()
	err = c.do(r, phase)
}

// do calls the component.
func (c *call) do(r *Registry, phase string) error {
	switch phase {
	case PhaseStart:
		return c.n.comp.Start(&c.callContext)
	case PhaseHealth:
		if d, ok := c.n.comp.(Dier); ok {
			c.done = d.Done()
		}
		return r.watchHealth(c.n)
	case PhaseDrain:
		r.unwatchHealth(c.n)
		if d, ok := c.n.comp.(Drainer); ok {
			return d.Drain(&c.callContext)
		}
		return nil
	case PhaseStop:
		r.unwatchHealth(c.n)
		return c.n.comp.Stop(&c.callContext)
	case PhaseAbort:
		if a, ok := c.n.comp.(Aborter); ok {
			return a.Abort()
		}
		return nil
	}
	return fmt.Errorf("unknown phase %q", phase)
}

// panicStack is the stack of a panic, from the frame that panicked outwards to the component's entry.
func panicStack() string {
	frames := goroutines.Callers(0)
	for i, f := range frames {
		if isOurs(f.Function) && i > 0 && !isOurs(frames[i-1].Function) {
			frames = frames[:i] // we called the component
			break
		}
	}
	for len(frames) > 1 && isOurs(frames[0].Function) {
		frames = frames[1:] // the deferred function that recovers
	}
	return goroutines.Print(frames)
}

// isOurs reports whether a function is the machinery that calls components.
func isOurs(function string) bool {
	return strings.HasPrefix(function, "github.com/poolkeeper/poolkeeper/lifecycle.(*call)") ||
		strings.HasPrefix(function, "github.com/poolkeeper/poolkeeper/lifecycle.panicStack")
}

// failed records an error of a phase.
func (r *Registry) failed(c *call, phase string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if phase == PhaseStart {
		c.todo = 0 // what did not start has no health
	}
	c.tookLocked(phase, took)
	c.errs = append(c.errs, &ComponentError{Name: c.n.name, Phase: phase, Elapsed: took, Err: err})
}

// passed records the success of a phase.
func (r *Registry) passed(c *call, phase string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.tookLocked(phase, took)
	if phase == PhaseDrain {
		r.emitLocked(levelDebug, func(i Info) Event { i.Elapsed = took; return &Drained{i} }, c.n, PhaseDrain)
	}
}

func (c *call) tookLocked(phase string, took time.Duration) {
	if phase == PhaseDrain {
		c.n.down.Drain = took
	}
}

// becomeLocked makes n's state next if that may follow, and reports whether it did.
func (r *Registry) becomeLocked(n *node, next State, now time.Time) bool {
	if !n.state.canBecome(next) {
		return false
	}
	n.state, n.since = next, now
	return true
}

// outcomeLocked says how a call that is over, or given up, ended.
func (c *call) outcomeLocked(now time.Time) (Outcome, error) {
	elapsed := now.Sub(c.began)
	sentinel := ErrStopTimeout
	if c.phase == PhaseStart {
		sentinel = ErrStartTimeout
	}
	switch {
	case c.givenUp:
		err := &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: elapsed, Stack: c.stack, Err: timeoutError{sentinel}}
		return OutcomeAbandoned, join(append(c.errs, err))
	case c.aborting:
		err := fmt.Errorf("%w and was aborted", timeoutError{sentinel})
		if len(c.errs) > 0 {
			err = fmt.Errorf("%w: %w", err, join(unwrapAll(c.errs)))
		}
		return OutcomeAborted, &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: elapsed, Stack: c.stack, Err: err}
	case len(c.errs) > 0:
		return OutcomeFailed, join(c.errs)
	}
	return OutcomeOK, nil
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
