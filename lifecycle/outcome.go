package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// partLocked is called for each goroutine of a call that is through. The last one tells the walk,
// and returns it.
func (c *call) partLocked(now time.Time) *walk {
	c.parts--
	switch {
	case c.parts > 0:
		return nil
	case c.givenUp:
		c.lateLocked(now)
		return nil
	}
	n := c.n
	if n.call == c {
		n.call = nil // not to be kept for the life of the service
	}
	w := n.walk // not always that of c: another may have taken over, in which n has not begun yet
	if n.state == StateStarting {
		n.died = c.died
		w.startedLocked(c, now)
		c.r.watchDoneLocked(n)
	} else {
		w.stoppedLocked(c, now)
	}
	return w
}

// lateLocked takes the result of a call that was given up. A component that came up is stopped at
// once; one that failed to is aborted. Only the component's context waits for that. The error of
// Start or Shutdown has warned of it.
func (c *call) lateLocked(now time.Time) {
	n := c.n
	c.r.emitLocked(slog.LevelWarn, n, c.phase, func(i event.Info) event.Event {
		i.Elapsed = now.Sub(c.began)
		return &event.Late{Info: i}
	})
	if !c.goesUp() {
		c.r.becomeLocked(n, StateStopped, now)
		return
	}
	limit := n.stopTimeout
	if limit <= 0 {
		limit = cmp.Or(c.r.tuned.Load().ShutdownTimeout, defaultShutdownTimeout)
	}
	phases := stopOnly
	if len(c.errs) > 0 {
		phases = phasesAbort(n.comp)
	}
	stop := &call{
		Context: context.WithoutCancel(c.Context), r: c.r, n: n, ahead: phases,
		parts: 1, began: now, ends: now.Add(limit), givenUp: true,
	}
	stop.beginLocked(now)
}

// cancelled reports whether a start was told to give up. A deadline does not count: what misses it
// is to blame.
func (c *call) cancelled() bool { return errors.Is(c.Err(), context.Canceled) }

// failedOnRequest reports whether a start failed only because it was told to.
func (c *call) failedOnRequest(err error) bool {
	return c.cancelled() && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(c.Context)))
}

// startedLocked takes the result of a Start, for the walk up or for the walk down that took over
// meanwhile.
func (w *walk) startedLocked(c *call, now time.Time) {
	r, n := w.r, c.n
	outcome, err := c.outcomeLocked(now)
	n.up.took, n.up.outcome, n.up.err = now.Sub(c.began), outcome, err
	if err != nil {
		n.err = err
		cancelled, level := c.failedOnRequest(err), slog.LevelError
		if cancelled {
			level = slog.LevelDebug
		}
		r.emitLocked(level, n, c.phase, func(i event.Info) event.Event {
			i.Elapsed, i.Err = n.up.took, err
			return &event.Failed{Info: i, Cancelled: cancelled}
		})
	}
	if err == nil || c.phase == event.PhaseHealth {
		r.becomeLocked(n, StateUp, now)
		r.emitLocked(slog.LevelInfo, n, event.PhaseStart, func(i event.Info) event.Event {
			i.Elapsed = n.up.took
			return &event.Started{Info: i}
		})
	} else {
		r.becomeLocked(n, StateFailed, now)
	}
	if w.up && !w.over && c.cancelled() {
		w.failLocked(&interruptedError{context.Cause(c.Context)}) // waitUntilDone is about to find out
	}
	if err != nil && !c.failedOnRequest(err) {
		w.errs = append(w.errs, err)
	}
	switch {
	case !n.begun:
	case !w.up:
		w.beginDownLocked(n, now)
	case err != nil:
		w.over = true
	default:
		w.doneLocked(n)
	}
}

// errRolledBack is the cause with which the contexts of what is starting end when something else
// has failed to.
var errRolledBack = errors.New("lifecycle: start is being rolled back")

// stoppedLocked takes the result of a Stop or Abort.
func (w *walk) stoppedLocked(c *call, now time.Time) {
	n := c.n
	if n.state == StateAbandoned { // aborted while its Start hangs, which n.down says already
		w.doneLocked(n)
		return
	}
	outcome, err := c.outcomeLocked(now)
	n.down.took, n.down.outcome, n.down.err = now.Sub(n.down.began), outcome, err
	if outcome == event.OutcomeAbandoned {
		w.abandonLocked(c, now, err)
		w.doneLocked(n)
		return
	}
	w.r.becomeLocked(n, StateStopped, now)
	level := slog.LevelInfo
	if err != nil {
		n.err = err
		w.errs = append(w.errs, err)
		level = slog.LevelError
	}
	w.r.emitLocked(level, n, c.phase, func(i event.Info) event.Event {
		i.Elapsed, i.Err = n.down.took, err
		return &event.Stopped{Info: i, Outcome: outcome, NeverUp: c.neverUp}
	})
	w.doneLocked(n)
}

// supersedeLocked drops the error of a Drain that ran out of time once Stop has given its own
// account of what was left: each holder is named once.
func (c *call) supersedeLocked(stopped error) {
	if c.phase == event.PhaseStop && c.overrun && (stopped != nil || namesWhatIsLeft(c.n.comp)) && len(c.errs) > 0 {
		c.errs = c.errs[1:]
	}
}

// namesWhatIsLeft reports whether a component's Stop goes on with what its Drain has not finished,
// and says what it cuts off.
func namesWhatIsLeft(c Component) bool {
	if _, ok := c.(*Server); ok {
		return true
	}
	_, pool := c.(HolderLister)
	return pool
}

// outcomeLocked says how a call that is over, or given up, ended.
func (c *call) outcomeLocked(now time.Time) (event.Outcome, error) {
	sentinel := ErrStopTimeout
	if c.goesUp() {
		sentinel = ErrStartTimeout
	}
	failure := func(err error) *ComponentError { return c.failureLocked(err, c.stack, now) }
	switch {
	case c.givenUp:
		return event.OutcomeAbandoned, failure(withErrs(timeoutError{sentinel}, c.errs))
	case c.runsOn:
		return event.OutcomeAbandoned, failure(join(unwrapAll(c.errs)))
	case c.aborting && c.walk.cut:
		return event.OutcomeAborted, c.failureLocked(withErrs(errCutAbort, c.errs), "", now)
	case c.aborting:
		return event.OutcomeAborted, failure(withErrs(fmt.Errorf("%w and was aborted", timeoutError{sentinel}), c.errs))
	case len(c.errs) > 0:
		return event.OutcomeFailed, join(c.errs)
	case c.forced:
		return event.OutcomeAborted, nil
	}
	return event.OutcomeOK, nil
}

func (c *call) failureLocked(err error, stack string, now time.Time) *ComponentError {
	if waitsForItself(stack) {
		err = fmt.Errorf("%w: %w", err, errWaitsForItself)
	}
	return &ComponentError{Name: c.n.name, Phase: c.phase, Elapsed: now.Sub(c.began), Stack: stack, Err: err}
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
