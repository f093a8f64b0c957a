package redispool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// AcquireError says why a caller did not get a connection: what the pool looked like when it gave up waiting. It
// wraps redis.ErrPoolTimeout after AcquireTimeout, or the error of the caller's context.
type AcquireError struct {
	Pool     string        // name of the pool, and of the node on a Cluster
	Max      int           // MaxOpen
	Open     int           // connections open, idle ones included
	InUse    int           // connections in use, by commands and by holders
	Waiting  int           // callers in the queue
	Limit    time.Duration // AcquireTimeout; 0: the caller's context decides
	Holders  string        // who has held a connection (Conn, Watch, a subscription) for longest, in one line
	LastDial error         // why the last dial failed, if it did; nil otherwise
	Err      error         // why the caller gave up
}

// Error says all of it in one line.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "redispool: acquire from %q: %d of %d in use", e.Pool, e.InUse, e.Max)
	if e.Waiting > 0 {
		fmt.Fprintf(&b, ", %d waiting", e.Waiting)
	}
	if e.Holders != "" {
		fmt.Fprintf(&b, ", %s", e.Holders)
	}
	if e.LastDial != nil {
		fmt.Fprintf(&b, ", last dial failed: %v", e.LastDial)
	}
	if errors.Is(e.Err, redis.ErrPoolTimeout) && e.Limit > 0 {
		fmt.Fprintf(&b, "; gave up after %s", e.Limit)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns Err.
func (e *AcquireError) Unwrap() error { return e.Err }

// explain turns the bare error of a caller who got no connection into one that says why, and leaves others alone.
// Comparing context errors by identity tells the wait for a connection, which returns them bare, from a deadline on
// the wire, which does not.
func (n *node) explain(err error) error {
	inVain := errors.Is(err, redis.ErrPoolTimeout)
	if err == context.DeadlineExceeded || err == context.Canceled { //nolint:errorlint // see above
		s := n.client.PoolStats()
		inVain = s.IdleConns == 0 && (int(s.TotalConns) >= n.pool.cfg.MaxOpenCeiling || s.PendingRequests > 0 || n.lastDial.Load() != nil)
	}
	if !inVain {
		return err
	}
	return n.acquireError(err)
}

// acquireError describes the pool as it is now.
func (n *node) acquireError(err error) *AcquireError {
	s := n.client.PoolStats()
	out := &AcquireError{
		Pool: n.pool.poolName(), Max: n.pool.config().MaxOpen, Open: int(s.TotalConns), InUse: int(s.TotalConns - s.IdleConns),
		Waiting: int(s.PendingRequests), Limit: n.pool.cfg.AcquireTimeout, Err: err,
	}
	if !n.isDoor {
		out.Pool += "/" + n.addr()
	}
	if n.pool.held.Len() > 0 {
		out.Holders = n.pool.held.Describe(time.Now())
	}
	if last := n.lastDial.Load(); last != nil {
		out.LastDial = *last
	}
	return out
}
