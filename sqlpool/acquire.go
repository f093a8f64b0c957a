package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// AcquireError says why a caller did not get a connection: what the pool looked like when it gave
// up waiting, or was refused because of MaxWaiting. It matches [poolkeeper.ErrAcquireTimeout] and
// context.DeadlineExceeded if the caller waited for AcquireTimeout or until its own deadline, and
// [poolkeeper.ErrTooManyWaiting] if it was refused.
type AcquireError struct {
	Pool    string        // name of the pool
	Max     int           // MaxOpen
	InUse   int           // connections held by callers
	Waiting int           // other callers in the queue
	Dialing int           // connections being opened
	Lost    int           // places of MaxOpen taken by connections that ReclaimAfter took away and no holder released
	Dial    error         // why no connection can be opened, if none could be lately; else nil
	Waited  time.Duration // how long this caller waited
	Err     error         // why it gave up, or was refused

	oldest holders.Oldest
}

// Holders names at most three of the oldest holders in one line, with kind, age and place. It is
// empty if no caller held a connection. The stacks become text here, not when the caller gives up,
// because hundreds of callers may give up at once.
func (e *AcquireError) Holders() string { return e.oldest.String() }

// Error says all of it in one line.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sqlpool: acquire from %q: %d of %d in use", e.Pool, e.InUse, e.Max)
	if who := e.Holders(); who != "" {
		fmt.Fprintf(&b, ", %s", who)
	}
	if e.Lost > 0 {
		fmt.Fprintf(&b, "; %s taken by connections that ReclaimAfter took away and nobody released", plural.Of(e.Lost, "place"))
	}
	if e.Dialing > 0 {
		fmt.Fprintf(&b, "; %d being opened", e.Dialing)
	}
	if e.Dial != nil {
		fmt.Fprintf(&b, "; %v", e.Dial)
	}
	if e.Waiting > 0 {
		fmt.Fprintf(&b, "; %d more waiting", e.Waiting)
	}
	if errors.Is(e.Err, poolkeeper.ErrTooManyWaiting) {
		fmt.Fprintf(&b, "; refused: %v", e.Err)
	} else {
		fmt.Fprintf(&b, "; gave up after %s: %v", e.Waited.Round(time.Millisecond), e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *AcquireError) Unwrap() error { return e.Err }

// timeoutError ends a wait because of the clock. It matches ErrAcquireTimeout and
// context.DeadlineExceeded.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string   { return e.text }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Is(target error) bool {
	return target == poolkeeper.ErrAcquireTimeout || target == context.DeadlineExceeded
}

// tooManyError refuses a caller because of MaxWaiting.
type tooManyError struct{ text string }

func (e *tooManyError) Error() string        { return e.text }
func (e *tooManyError) Is(target error) bool { return target == poolkeeper.ErrTooManyWaiting }

// tooMany reports whether one more caller would be more than MaxWaiting, beside callers that have a
// connection or wait for one, of a pool with that much room.
func (c *core) tooMany(callers, room int) bool {
	limit := c.cfg().MaxWaiting
	return limit != 0 && callers+1-room > max(limit, 0)
}

// refused explains why a caller may not wait.
func (c *core) refused() error {
	text := "MaxWaiting is NoWaiting"
	if limit := c.cfg().MaxWaiting; limit > 0 {
		text = fmt.Sprintf("MaxWaiting is %d", limit)
	}
	return c.acquireFailure(time.Now(), 0, &tooManyError{text})
}

// gaveUp turns the end of a wait into the error that an AcquireError wraps. A nil ctx error means
// AcquireTimeout.
func gaveUp(ctx context.Context, limit time.Duration) error {
	switch {
	case ctx.Err() == nil:
		return &timeoutError{fmt.Sprintf("AcquireTimeout of %s is over", limit)}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &timeoutError{ctx.Err().Error()}
	case errors.Is(context.Cause(ctx), context.Canceled):
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
}
