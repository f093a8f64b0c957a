package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// tooMany reports whether one more caller would be more than MaxWaiting, beside callers that have a
// connection or wait for one, of a pool with that much room.
func (c *base) tooMany(callers, room int) bool {
	limit := c.cfg().MaxWaiting
	return limit != 0 && callers+1-room > max(limit, 0)
}

// refused explains why a caller may not wait.
func (c *base) refused(of reporter) error {
	return c.acquireFailure(of, time.Now(), 0, acquire.Refused(c.cfg().MaxWaiting))
}

// gaveUp turns the end of a wait into the error that an AcquireError wraps. A nil ctx error means
// AcquireTimeout.
func gaveUp(ctx context.Context, limit time.Duration) error {
	if ctx.Err() == nil {
		return acquire.TimedOut(limit, nil)
	}
	return acquire.GaveUp(ctx)
}

// waiter is a caller in the queue of a pool. On pgxpool it is granted the right to a connection,
// and its Grant has none.
type waiter = queue.Waiter[*native]

// waitFor blocks until w is granted something, and reports false if ctx or AcquireTimeout ends
// first. The caller asked at start.
func (c *base) waitFor(ctx context.Context, w *waiter, start time.Time) (queue.Grant[*native], bool) {
	defer func() {
		c.metrics.waits.Add(1)
		c.metrics.waited.Add(int64(time.Since(start)))
	}()
	return w.Wait(ctx, start, c.cfg().AcquireTimeout)
}

// reporter is the backend that reports something, as far as its base must know more of it.
type reporter interface {
	// load is what the backend is busy with.
	load() load
	// Open is how many connections are open.
	Open() int
	// flush closes the idle connections that are stale, in the background.
	flush()
}

// load is what a backend is busy with.
type load struct {
	max, inUse, waiting, dialing int
	reclaimed                    int // connections that take a place until their holders release them
}

// acquireFailed explains why a caller that waited since then did not get a connection.
func (c *base) acquireFailed(ctx context.Context, of reporter, since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	err := gaveUp(ctx, c.cfg().AcquireTimeout)
	if c.paused.Load() {
		err = fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err)
	}
	if isTimeout(err) {
		c.metrics.acquireTimeouts.Add(1)
	}
	return c.acquireFailure(of, now, now.Sub(since), err)
}

// tooLate explains why a caller gives up before its deadline.
func (c *base) tooLate(of reporter, since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	c.metrics.acquireTimeouts.Add(1)
	return c.acquireFailure(of, now, now.Sub(since), &acquire.TimeoutError{Text: fmt.Sprintf(
		"its deadline comes too soon for a connection to be of use: nearly all are needed for %s or longer",
		c.metrics.shortUse.Load(),
	)})
}

// acquireFailure describes the pool to a caller that gets no connection because of err.
func (c *base) acquireFailure(of reporter, now time.Time, waited time.Duration, err error) *poolkeeper.AcquireError {
	l := of.load()
	out := &poolkeeper.AcquireError{
		Pool: c.poolName(), Max: l.max, InUse: l.inUse, Waiting: l.waiting, Dialing: l.dialing,
		Reclaimed: l.reclaimed, Oldest: c.held.Oldest(), Waited: waited, Time: now, Err: err,
	}
	if l.inUse < l.max { // else no connection would be opened for this caller anyway
		out.DialErr = c.cannotDial(now)
		if out.DialErr == nil {
			out.DialErr = c.pace.Err()
		}
	}
	return out
}

// A new connection can be stale before its first use: Reset was called while it was dialled, or
// its dial outlasted MaxLifetime. A caller tries again, but not without end and not without a
// pause.
const (
	freshLimit = 5                     // new connections that one acquisition throws away at most
	freshPause = 10 * time.Millisecond // before the second dial; it doubles
)

// discarded counts the new connections that one acquisition has thrown away.
type discarded int

// noteAnother notes that one more new connection was thrown away, and pauses, for as long as ctx
// lets it. It returns an error if that was the last one for the caller, which asked at start.
func (w *discarded) noteAnother(ctx context.Context, c *base, of reporter, reason string, start time.Time) error {
	*w++
	if *w == freshLimit {
		return c.acquireFailure(of, time.Now(), time.Since(start), &discardedError{int(*w), reason})
	}
	pause := freshPause << (*w - 1)
	if limit := c.cfg().AcquireTimeout; limit > 0 {
		pause = min(pause, max(limit-time.Since(start), 0))
	}
	_ = retry.Sleep(ctx, pause) // its end is noticed by the next wait
	return nil
}

// discardedError says that new connections could not be used.
type discardedError struct {
	n      int
	reason string // one of poolkeeper's Evicted constants
}

func (e *discardedError) Error() string {
	why := "they did not answer"
	switch e.reason {
	case poolkeeper.EvictedLifetime:
		why = "MaxLifetime is shorter than it takes to open a connection"
	case poolkeeper.EvictedReload:
		why = "Reset or Reload was called during each dial"
	case poolkeeper.EvictedFailover:
		why = "the server refused writes during each dial"
	}
	return fmt.Sprintf("%d new connections in a row were thrown away before their first use: %s", e.n, why)
}

func isTimeout(err error) bool { return errors.Is(err, poolkeeper.ErrAcquireTimeout) }
