package sqlpool

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/acquire"
)

// tooMany reports whether one more caller would be more than MaxWaiting, beside callers that have a
// connection or wait for one, of a pool with that much room.
func (c *core) tooMany(callers, room int) bool {
	limit := c.cfg().MaxWaiting
	return limit != 0 && callers+1-room > max(limit, 0)
}

// refused explains why a caller may not wait.
func (c *core) refused() error {
	return c.acquireFailure(time.Now(), 0, acquire.Refused(c.cfg().MaxWaiting))
}

// gaveUp turns the end of a wait into the error that an AcquireError wraps. A nil ctx error means
// AcquireTimeout.
func gaveUp(ctx context.Context, limit time.Duration) error {
	if ctx.Err() == nil {
		return acquire.TimedOut(limit, nil)
	}
	return acquire.GaveUp(ctx)
}
