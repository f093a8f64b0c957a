package redispool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// AcquireError says why a caller did not get a connection. It describes the pool at the moment at
// which the caller gave up waiting, or was refused because of MaxWaiting. It matches
// [poolkeeper.ErrAcquireTimeout] and context.DeadlineExceeded if the caller waited until
// AcquireTimeout or its own deadline ended. After AcquireTimeout it matches redis.ErrPoolTimeout
// too. It matches [poolkeeper.ErrTooManyWaiting] if the caller was refused, and
// [poolkeeper.ErrPaused] if the pool was paused.
type AcquireError struct {
	Pool     string        // name of the pool, and of the node on a Cluster
	Max      int           // MaxOpen
	Open     int           // connections open, idle ones included
	InUse    int           // connections in use, by commands and by holders
	Waiting  int           // other callers in the queue
	Waited   time.Duration // how long this caller waited; 0: it is not known, because go-redis does not tell
	Limit    time.Duration // AcquireTimeout; 0: the caller's context decides
	LastDial error         // why no connection could be opened, if the last attempt failed; nil otherwise
	Err      error         // why the caller gave up

	oldest holders.Oldest
}

// Holders names the holders that had held a connection for longest, in one line. A holder is a
// Conn, a Watch or a subscription. It names at most three, with kind, age and place, and returns ""
// if there were none. It formats their stacks here and not when the caller gives up, because
// hundreds of callers may give up at once.
func (e *AcquireError) Holders() string { return e.oldest.String() }

// Error says all of it in one line.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "redispool: acquire from %q: %d of %d in use", e.Pool, e.InUse, e.Max)
	if e.Waiting > 0 {
		fmt.Fprintf(&b, ", %d waiting", e.Waiting)
	}
	if who := e.Holders(); who != "" {
		fmt.Fprintf(&b, ", %s", who)
	}
	if e.LastDial != nil {
		fmt.Fprintf(&b, ", no connection could be opened lately: %v", e.LastDial)
	}
	switch {
	case errors.Is(e.Err, poolkeeper.ErrTooManyWaiting):
		fmt.Fprintf(&b, "; refused: %v", e.Err)
	case e.Waited == 0:
		fmt.Fprintf(&b, "; gave up: %v", e.Err)
	default:
		fmt.Fprintf(&b, "; gave up after %s: %v", e.Waited.Round(time.Millisecond), e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *AcquireError) Unwrap() error { return e.Err }

// timeoutError ends a wait because of the clock. It matches poolkeeper.ErrAcquireTimeout and
// context.DeadlineExceeded.
type timeoutError struct {
	text string
	own  bool // it was the caller's own deadline
}

func (e *timeoutError) Error() string   { return e.text }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Is(target error) bool {
	return target == poolkeeper.ErrAcquireTimeout || target == context.DeadlineExceeded || target == redis.ErrPoolTimeout && !e.own
}

// timeIsOver ends a wait after AcquireTimeout.
func timeIsOver(limit time.Duration) error {
	return &timeoutError{text: fmt.Sprintf("AcquireTimeout of %s is over", limit)}
}

// gaveUp ends the wait of a caller whose context has ended.
func gaveUp(ctx context.Context) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &timeoutError{text: ctx.Err().Error(), own: true}
	case errors.Is(context.Cause(ctx), context.Canceled):
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
}

// tooManyError refuses a caller because of MaxWaiting.
type tooManyError struct{ text string }

func (e *tooManyError) Error() string        { return e.text }
func (e *tooManyError) Is(target error) bool { return target == poolkeeper.ErrTooManyWaiting }

func tooMany(most int) error {
	if most < 0 {
		return &tooManyError{"MaxWaiting is NoWaiting"}
	}
	return &tooManyError{fmt.Sprintf("MaxWaiting is %d", most)}
}

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
func (n *node) gaveUpAfter(err error, waited time.Duration) *AcquireError {
	if !errors.Is(err, context.Canceled) {
		n.pool.met.acquireTimeouts.Add(1)
	}
	return n.acquireError(err, waited)
}

// acquireError describes the pool as it is now.
func (n *node) acquireError(err error, waited time.Duration) *AcquireError {
	s := n.client.PoolStats()
	out := &AcquireError{
		Pool: n.pool.poolName(), Max: n.pool.config().MaxOpen, Open: int(s.TotalConns), InUse: int(s.TotalConns - s.IdleConns),
		Waiting: n.valve.waiting(), Waited: waited, Limit: n.pool.cfg.AcquireTimeout, Err: err,
	}
	if !n.isDoor {
		out.Pool += "/" + n.addr()
	}
	out.oldest = n.pool.held.Oldest(time.Now())
	if last := n.lastDial.Load(); last != nil {
		out.LastDial = *last
	}
	return out
}
