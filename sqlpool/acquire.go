package sqlpool

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/queue"
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

// waiter is a caller in the queue of a pool. On pgxpool it is granted the right to a connection, and
// its Grant has none.
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
