package health

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Registration is one check in its monitor. Its methods are safe for concurrent use.
type Registration struct {
	m     *Monitor
	check Check   // with defaults; never changes
	phase float64 // 0 to 1: where in its interval the check runs

	// Read and written by live traffic and by handlers, without a lock.
	traffic    atomic.Bool  // a success was observed since the last run
	hastened   atomic.Bool  // a run was asked for and has not begun
	failing    atomic.Bool  // the status is fail: a success is news and an error is not
	lastResult atomic.Int64 // clock of the last result; noResult before the first

	// Guarded by m.mu.
	removed     bool
	state       streak
	verdict     *verdict // immutable, replaced on change
	told        told     // what listeners were last told
	failedFirst int64    // clock of the first of the runs that have failed in a row; of use while there are any
	run         *run     // the probe running now, nil if none
	slow        bool     // the last run timed out: it queues apart
	waiting     bool     // it is in a lane's queue
	backoff     int      // runs that failed since the check was decided as failed
	standIns    int      // runs in a row that live traffic stood in for
	slot        int64    // the number of the interval of the last planned run
	started     int64    // clock of the start of the last run
	trafficFrom int64    // clock since which traffic is counted
	next        int64    // clock of what the scheduler has to do next
	index       int      // in the scheduler's heap; -1: not in it
}

// noResult is lastResult before the first result.
const noResult = math.MinInt64

// isStale reports whether the last result is older than MaxAge.
func (r *Registration) isStale(now int64) bool {
	return now > later(r.lastResult.Load(), r.check.MaxAge)
}

// Name returns the name of the check.
func (r *Registration) Name() string { return r.check.Name }

// Observe tells the check what live traffic saw; it makes a Registration a poolkeeper.Observer. It
// never changes the verdict by itself. What is news brings the next run forward, at most once per
// RetryInterval: an error while the check does not fail, a success while it does. nil costs a few
// nanoseconds and allocates nothing, so it may be called for every command.
func (r *Registration) Observe(err error) {
	if err == nil && !r.traffic.Load() {
		r.traffic.Store(true)
	}
	if news := (err == nil) == r.failing.Load(); !news {
		return
	}
	if !r.hastened.Load() && r.hastened.CompareAndSwap(false, true) {
		r.m.hasten(r)
	}
}

// Remove takes the check out: pages forget it at once and its name is free. If its probe is
// running, its context is cancelled and Remove waits until it returned or ctx is done; then the
// error names the probe that hangs. May be called more than once, also while a probe hangs.
func (r *Registration) Remove(ctx context.Context) error {
	current := r.m.remove(r) //nolint:contextcheck // runs of other checks that find a place now are not the caller's
	if current == nil {
		return nil
	}
	if await(ctx, current.done) {
		return nil
	}
	since := r.m.wall(current.started)
	return fmt.Errorf("health: remove %q: its probe runs since %s: %w", r.check.Name, stamp(since), context.Cause(ctx))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
