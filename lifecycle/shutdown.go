package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// shutdown is the one shutdown of a registry.
type shutdown struct {
	cause error         // why, nil if a caller just called Shutdown; immutable
	fatal bool          // cause is a failure, and belongs into err; immutable
	wasUp bool          // there is traffic to be drained; immutable
	force chan struct{} // closed when it is cut short

	// Guarded by Registry.mu.
	walk   *walk   // nil until components begin to stop
	deaths []error // of components that died before they were stopped

	// Set before done is closed.
	errs []error
	err  error

	done chan struct{} // closed when everything is down or given up
}

// Shutdown takes everything down and returns when all of it is down or given up, by the deadline of
// ctx or after Config.ShutdownTimeout, whichever comes first, or after 25 s if there is neither:
//
//  1. Readiness becomes false, for good.
//  2. For DrainDelay, at most half the time, everything goes on serving, so that load balancers can take notice. It is
//     skipped if the registry was not up. Responses of a [Server] end their connections meanwhile.
//  3. Each component is drained and stopped as soon as all that depends on it has stopped, or was given up.
//     Components that were never started, or failed to, are aborted; those that have no Abort are stopped.
//
// A component gets a share of the time: with D the deadline and L the components in the longest
// chain of dependencies below it, itself included, one that begins to stop at t has until t + (D −
// t)/L, or its StopTimeout if that is shorter. (In a very long chain a share is never less than a
// twentieth of the whole, at most 250 ms, but no more than half of what is left.) Drain has three
// quarters of that, or all but 2 s if that is more. A quarter of its share before the end, at most
// 250 ms, the component's context ends, so that it can cut off what is left and say so. An eighth
// before the end, at most 100 ms, Abort is called. At the end the component is given up: the error
// names it, with what its goroutines were doing, and its dependencies are stopped all the same, or
// held open, as Config.OnHang says.
//
// The error joins a [*ComponentError] for each component that did not stop cleanly. nil means that
// all of it is down. Cancelling ctx cuts the shutdown short: everything that is left is aborted.
//
// Shutdown may be called at any time, before, during and after Start, and concurrently. There is
// only one shutdown, with the context of the first caller; all callers wait for it and get the same
// error. One whose own context ends before gets an error that says what is still up, and changes
// nothing.
func (r *Registry) Shutdown(ctx context.Context) error {
	c, first := r.beginShutdown(nil)
	if first {
		r.close(ctx, c)
		return c.err
	}
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("lifecycle: shutdown still under way, up: %s: %w",
			listed(r.stillUp()), context.Cause(ctx))
	}
}

// beginShutdown returns the shutdown, and whether the caller is the one to do it.
func (r *Registry) beginShutdown(cause error) (c *shutdown, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.beginShutdownLocked(cause, false)
}

func (r *Registry) beginShutdownLocked(cause error, fatal bool) (c *shutdown, first bool) {
	if r.shutdown != nil {
		return r.shutdown, false
	}
	r.freezeLocked()
	c = &shutdown{
		cause: cause, fatal: fatal, wasUp: r.phase == phaseUp,
		force: make(chan struct{}), done: make(chan struct{}),
	}
	r.shutdown = c
	if r.cutCause != nil {
		close(c.force)
	}
	r.phase, r.since = phaseClosing, time.Now()
	r.monitor.SetDraining() // under the same lock as phase: readiness and phase never differ (INV-3)
	if r.starting != nil && !r.starting.over {
		r.starting.takeOverLocked()
		r.starting.cancel(ErrShutdown)
	}
	r.restarts.haltLocked()
	return c, true
}

// close does the shutdown.
func (r *Registry) close(ctx context.Context, c *shutdown) {
	began := time.Now()
	end := deadline(ctx, r.tuned.Load().ShutdownTimeout, defaultShutdownTimeout)
	delay := r.drainDelay(c, end.Sub(began))
	r.emit(&event.ShuttingDown{Info: event.Info{Time: began, Err: c.cause}, Budget: end.Sub(began), Delay: delay})
	for _, n := range r.nodes {
		if a, ok := n.comp.(interface{ shutdownBegins() }); ok { // a Server
			a.shutdownBegins()
		}
	}
	r.waitDelay(ctx, c, delay)

	r.mu.Lock()
	w := r.newWalkLocked(ctx, false, end, r.nodes)
	c.walk = w
	r.unlock()
	w.waitUntilDone()
	w.cancel(nil)

	errs := r.stopMonitor(ctx, end)
	r.stopWatchers()
	r.restarts.stop()

	r.mu.Lock()
	if c.fatal {
		c.errs = append(c.errs, c.cause)
	}
	c.errs = append(c.errs, c.deaths...)
	c.errs = append(c.errs, w.errs...)
	c.errs = append(c.errs, errs...)
	c.err = errors.Join(c.errs...)
	r.phase, r.since = phaseClosed, time.Now()
	took := time.Since(began)
	r.ended = result{walk: w, took: took, delay: delay, err: c.err}
	r.mu.Unlock()
	r.emitAllDown(took, c.err)
	r.flush(end)
	close(c.done)
	close(r.done)
}

// emitAllDown tells that the shutdown is over, if anybody listens.
func (r *Registry) emitAllDown(took time.Duration, err error) {
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelError
	}
	if !r.events.wants(level) {
		return
	}
	r.mu.Lock()
	report := r.ended.reportLocked()
	r.mu.Unlock()
	r.emit(&event.AllDown{Info: event.Info{Time: time.Now(), Elapsed: took, Err: err}, Report: report})
}

// drainDelay is how long the shutdown goes on serving.
func (r *Registry) drainDelay(c *shutdown, budget time.Duration) time.Duration {
	if !c.wasUp {
		return 0
	}
	return max(min(r.tuned.Load().DrainDelay, budget/2), 0)
}

func (r *Registry) waitDelay(ctx context.Context, c *shutdown, delay time.Duration) {
	if delay == 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-c.force:
	}
}

// hungProbe is how long a probe is waited for that does not heed its context: what it probes is
// down already.
const hungProbe = time.Second

// stopMonitor stops the checks. One that hangs is waited for until the end, but not for long.
func (r *Registry) stopMonitor(ctx context.Context, end time.Time) []error {
	patience := min(max(time.Until(end), cutGrace), hungProbe)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := r.monitor.Stop(ctx); err != nil {
		return []error{err}
	}
	return nil
}

// cutShort makes a shutdown abort everything that is left, or the one to come do so at once.
func (r *Registry) cutShort(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cutCause != nil {
		return
	}
	r.cutCause = cause
	c := r.shutdown
	if c == nil {
		return
	}
	close(c.force)
	if w := c.walk; w != nil && w.left > 0 {
		w.cutLocked(time.Now(), cause)
		w.poke()
	}
}

// stillUp names the components that are neither down nor were never up.
func (r *Registry) stillUp() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, n := range r.nodes {
		if n.comp != nil && n.state != StateStopped && n.state != StateAdded {
			names = append(names, n.name)
		}
	}
	return names
}
