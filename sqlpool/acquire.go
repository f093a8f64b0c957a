package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrAcquireTimeout is wrapped by the [AcquireError] of a caller that waited for AcquireTimeout, or until its own
// deadline, without getting a connection. Such an error also wraps context.DeadlineExceeded.
var ErrAcquireTimeout = errors.New("sqlpool: no connection in time")

// AcquireError says why a caller did not get a connection: what the pool looked like when it gave up waiting.
type AcquireError struct {
	Pool    string        // name of the pool
	Max     int           // MaxOpen
	InUse   int           // connections held by callers
	Waiting int           // other callers in the queue
	Dialing int           // connections being opened
	Waited  time.Duration // how long this caller waited
	Holders string        // who has held a connection for longest, in one line; empty if nobody does
	Err     error         // why it gave up: wraps ErrAcquireTimeout, or the cause of the caller's context
}

// Error says all of it in one line.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sqlpool: acquire from %q: %d of %d in use", e.Pool, e.InUse, e.Max)
	if e.Holders != "" {
		fmt.Fprintf(&b, ", %s", e.Holders)
	}
	if e.Dialing > 0 {
		fmt.Fprintf(&b, "; %d being opened", e.Dialing)
	}
	if e.Waiting > 0 {
		fmt.Fprintf(&b, "; %d more waiting", e.Waiting)
	}
	fmt.Fprintf(&b, "; gave up after %s: %v", e.Waited.Round(time.Millisecond), e.Err)
	return b.String()
}

// Unwrap returns Err.
func (e *AcquireError) Unwrap() error { return e.Err }

// timeoutError is a wait that ended because of the clock: ErrAcquireTimeout to whom the pool is known, and a plain
// deadline to whom it is not.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string   { return e.text }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Is(target error) bool {
	return target == ErrAcquireTimeout || target == context.DeadlineExceeded
}

// gaveUp turns the end of a wait into the error that an AcquireError wraps. A nil ctx error means AcquireTimeout.
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
