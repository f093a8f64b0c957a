package sqlpool

import (
	"context"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// A new connection can be stale before its first use: Reset was called while it was dialled, or
// its dial outlasted MaxLifetime. A caller tries again, but not without end and not without a
// pause.
const (
	freshLimit = 5                     // new connections that one acquisition throws away at most
	freshPause = 10 * time.Millisecond // before the second dial; it doubles
)

// discarded counts the new connections that one acquisition has thrown away.
type discarded int

// noteAnother notes that one more new connection was thrown away, and pauses, for as long as ctx lets
// it. It returns an error if that was the last one for the caller, which asked at start.
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
