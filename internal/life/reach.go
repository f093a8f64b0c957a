package life

import (
	"context"
	"errors"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// Reach makes attempts to reach the server, as many as policy says, and reports whether one has
// succeeded: a start that is Degraded is none that has failed. The failure that ends a start is
// returned, with advice, and not logged.
func (s *State) Reach(
	ctx context.Context, policy poolkeeper.StartPolicy, log *event.Log, attempt func(context.Context) error,
) (reached bool, err error) {
	began, failures := time.Now(), 0
	err = retry.Until(ctx, func(ctx context.Context) error {
		failure := attempt(ctx)
		reached = failure == nil
		return failure
	}, func(f retry.Failure) (again bool, err error) {
		failures = f.Attempt
		switch policy {
		case poolkeeper.StartFailFast:
			return false, f.Err
		case poolkeeper.StartDegraded:
			log.Emit(event.OfStartWithout(f.Err))
			return false, nil
		case poolkeeper.StartWaitForServer:
		}
		log.Emit(event.OfWait(f.Attempt, f.Next, f.Err))
		return true, nil
	})
	if reached && failures > 0 {
		log.Emit(event.OfWaitOver(failures+1, time.Since(began)))
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return reached, err // the service gave up, and knows why
	}
	return reached, log.Advise(err)
}
