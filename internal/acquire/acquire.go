// Package acquire holds the errors that end a caller's wait for a connection. Both pools wrap them in
// a poolkeeper.AcquireError.
package acquire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// TimeoutError ends a wait because of the clock. It matches poolkeeper.ErrAcquireTimeout and
// context.DeadlineExceeded.
type TimeoutError struct {
	Text string
	Also error // the driver's own error for it, which it matches too; may be nil
}

// Error returns Text.
func (e *TimeoutError) Error() string { return e.Text }

// Timeout makes e a timeout to callers that test for one, as net.Error does.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary completes net.Error.
func (e *TimeoutError) Temporary() bool { return true }

// Is matches the errors that the type's comment names.
func (e *TimeoutError) Is(target error) bool {
	return target == poolkeeper.ErrAcquireTimeout || target == context.DeadlineExceeded || e.Also != nil && target == e.Also
}

// TimedOut ends a wait after AcquireTimeout. It matches also, the driver's own error for it, too.
func TimedOut(limit time.Duration, also error) error {
	return &TimeoutError{Text: fmt.Sprintf("AcquireTimeout of %s is over", limit), Also: also}
}

// GaveUp ends the wait of a caller whose context has ended.
func GaveUp(ctx context.Context) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &TimeoutError{Text: ctx.Err().Error()}
	case errors.Is(context.Cause(ctx), context.Canceled):
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
}

// refusedError refuses a caller because of MaxWaiting.
type refusedError struct{ text string }

func (e *refusedError) Error() string        { return e.text }
func (e *refusedError) Is(target error) bool { return target == poolkeeper.ErrTooManyWaiting }

// Refused refuses a caller because maxWaiting callers wait already.
func Refused(maxWaiting int) error {
	if maxWaiting <= 0 {
		return &refusedError{"MaxWaiting is NoWaiting"}
	}
	return &refusedError{fmt.Sprintf("MaxWaiting is %d", maxWaiting)}
}
