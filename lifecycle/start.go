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
// is doing; if it comes up later, it is stopped at once. INV-1, INV-13.
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
		c := r.closing
		r.mu.Unlock()
		return r.interrupted(c)
	}
	p := r.newPassLocked(ctx, true, end, r.nodes)
	r.boot = p
	r.unlock()
	p.drive()
	p.cancel(errRolledBack) // or of no account

	r.mu.Lock()
	took := r.now().since(p.began)
	err := errors.Join(p.errs...)
	r.start = story{pass: p, took: took, err: err}
	if r.phase == phaseStarting && err == nil {
		r.phase, r.since = phaseUp, time.Now()
		r.unhold()
		r.emitAllUpLocked(took)
	}
	up, c := r.phase == phaseUp, r.closing
	r.mu.Unlock()
	switch {
	case up:
		r.mender.wake()
		r.flush(end)
		return nil
	case c != nil:
		return errors.Join(err, r.interrupted(c))
	}
	return r.rollBack(ctx, err)
}

// emitAllUpLocked tells that the start is over, if anybody listens.
func (r *Registry) emitAllUpLocked(took time.Duration) {
	if !r.feed.wants(slog.LevelInfo) {
		return
	}
	report := r.reportLocked(&r.start)
	r.emit(&event.AllUp{Info: event.Info{Time: time.Now(), Elapsed: took}, Critical: report.Critical})
}

// enterStart makes a new registry a starting one.
func (r *Registry) enterStart(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.phase {
	case phaseNew:
		r.phase, r.since = phaseStarting, time.Now()
		r.base, r.labels = context.WithoutCancel(ctx), labelsOf(ctx)
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
func (r *Registry) interrupted(c *closing) error {
	<-c.done // bounded by the deadline of the shutdown
	return errors.Join(ErrShutdown, c.err)
}

// rollBack takes everything down after a failure, and returns it with what went wrong on the way.
func (r *Registry) rollBack(ctx context.Context, cause error) error {
	c, first := r.enterClosing(cause)
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

// interruptedError says that Start ended because its context did.
type interruptedError struct{ cause error }

func (e *interruptedError) Error() string { return "lifecycle: start interrupted: " + e.cause.Error() }
func (e *interruptedError) Unwrap() error { return e.cause }
