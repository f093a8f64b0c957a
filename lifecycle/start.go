package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Start brings every component up, each as soon as all it depends on is up, with independent ones
// at the same time, and returns when all are. It first returns every fault that Validate would.
//
// If a component fails, panics, or is not up by its StartTimeout, by that of the registry or when
// ctx ends, nothing more is started, and all is taken down again in reverse order as by Shutdown,
// within ShutdownTimeout. The error then joins a [*ComponentError] for each component that failed
// with those of the way down. A component whose Start has not returned is named in it with what it
// is doing; if it comes up later, it is stopped at once.
//
// A Shutdown meanwhile ends Start with ErrShutdown, after everything is down. Start can be called
// once: the next call returns ErrStarted, or ErrShutdown after a shutdown.
func (r *Registry) Start(ctx context.Context) error {
	if err := r.enterStart(ctx); err != nil {
		return err
	}
	end := deadline(ctx, r.cfg.StartTimeout, defaultStartTimeout)
	if err := r.prepare(ctx); err != nil {
		return r.rollBack(ctx, err)
	}
	r.mu.Lock()
	if r.phase != phaseStarting {
		c := r.shutdown
		r.mu.Unlock()
		return r.interrupted(c)
	}
	w := r.newWalkLocked(ctx, true, end, r.nodes)
	r.starting = w
	r.unlock()
	w.waitUntilDone()
	w.cancel(errRolledBack) // or of no account

	r.mu.Lock()
	took := time.Since(w.began)
	err := errors.Join(w.errs...)
	r.started = result{walk: w, took: took, err: err}
	if r.phase == phaseStarting && err == nil {
		r.phase, r.since = phaseUp, time.Now()
		r.unhold()
		r.emitAllUpLocked(took)
	}
	up, c := r.phase == phaseUp, r.shutdown
	r.mu.Unlock()
	switch {
	case up:
		r.restarts.wake()
		r.flush(end)
		return nil
	case c != nil:
		return errors.Join(err, r.interrupted(c))
	}
	return r.rollBack(ctx, err)
}

// emitAllUpLocked tells that the start is over, if anybody listens.
func (r *Registry) emitAllUpLocked(took time.Duration) {
	if !r.events.wants(slog.LevelInfo) {
		return
	}
	report := r.started.reportLocked()
	r.emit(&event.AllUp{Info: event.Info{Time: time.Now(), Elapsed: took}, Critical: report.Critical})
}

// enterStart makes a new registry a starting one.
func (r *Registry) enterStart(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.phase {
	case phaseNew:
		r.phase, r.since = phaseStarting, time.Now()
		r.values, r.labels = context.WithoutCancel(ctx), labelsOf(ctx)
		return nil
	case phaseStarting, phaseUp:
		return ErrStarted
	case phaseClosing, phaseClosed:
	}
	return ErrShutdown
}

// prepare does what comes before the first component: faults, and the monitor.
func (r *Registry) prepare(ctx context.Context) error {
	r.mu.Lock()
	r.freezeLocked()
	faults := errors.Join(r.faults...)
	r.mu.Unlock()
	if faults != nil {
		return faults
	}
	if ctx.Err() != nil {
		return &interruptedError{context.Cause(ctx)}
	}
	return r.monitor.Start(ctx)
}

// interrupted waits for the shutdown that came in between.
func (r *Registry) interrupted(c *shutdown) error {
	<-c.done // bounded by the deadline of the shutdown
	return errors.Join(ErrShutdown, c.err)
}

// rollBack takes everything down after a failure, and returns it with what went wrong on the way.
func (r *Registry) rollBack(ctx context.Context, cause error) error {
	c, first := r.beginShutdown(cause)
	if !first {
		<-c.done
	} else {
		r.close(context.WithoutCancel(ctx), c)
	}
	if c.err == nil {
		return cause
	}
	seen := parts(cause)
	errs := []error{cause}
	for _, err := range c.errs {
		if !slices.Contains(seen, err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// parts are the errors that errors.Join has put together in err.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// interruptedError says that Start ended because its context did.
type interruptedError struct{ cause error }

func (e *interruptedError) Error() string { return "lifecycle: start interrupted: " + e.cause.Error() }
func (e *interruptedError) Unwrap() error { return e.cause }
