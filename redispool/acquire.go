package redispool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
)

// timeIsOver ends a wait after AcquireTimeout, as go-redis' own error does.
func timeIsOver(limit time.Duration) error { return acquire.TimedOut(limit, redis.ErrPoolTimeout) }

// explain turns the bare error of a caller without a connection into one with the reason. It leaves
// other errors alone. Comparing context errors by identity tells the wait for a connection, which
// returns them bare, from a deadline on the wire, which does not.
func (n *node) explain(err error) error {
	inVain := errors.Is(err, redis.ErrPoolTimeout)
	if err == context.DeadlineExceeded || err == context.Canceled { //nolint:errorlint // see above
		s := n.client.PoolStats()
		inVain = s.IdleConns == 0 && (int(s.TotalConns) >= n.pool.cfg.MaxOpenCeiling || s.PendingRequests > 0 || n.lastDial.Load() != nil)
	}
	if !inVain {
		return err
	}
	return n.acquireError(err, 0)
}

// gaveUpAfter counts and describes a caller that has waited in vain.
func (n *node) gaveUpAfter(err error, waited time.Duration) *poolkeeper.AcquireError {
	if !errors.Is(err, context.Canceled) {
		n.pool.met.acquireTimeouts.Add(1)
	}
	return n.acquireError(err, waited)
}

// acquireError describes the pool as it is now.
func (n *node) acquireError(err error, waited time.Duration) *poolkeeper.AcquireError {
	s := n.client.PoolStats()
	out := &poolkeeper.AcquireError{
		Pool: n.pool.poolName(), Max: n.pool.config().MaxOpen, InUse: int(s.TotalConns - s.IdleConns),
		Waiting: n.valve.waiting(), Waited: waited, Time: time.Now(), Err: err,
	}
	if !n.isDoor {
		out.Pool += "/" + n.addr()
	}
	out.Oldest = n.pool.held.Oldest()
	if last := n.lastDial.Load(); last != nil {
		out.DialErr = cannotDial(*last)
	}
	return out
}

// cannotDial says that no new connection could be opened, and why.
func cannotDial(err error) error {
	return asFault(fmt.Errorf("no connection could be opened lately: %w", err))
}
