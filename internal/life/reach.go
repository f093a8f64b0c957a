package life

import (
	"context"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// Reach makes attempts to reach the server, as many as policy says, and reports whether one has succeeded: a start that
// is Degraded is none that has failed. log is called for the logger of the moment.
func (s *State) Reach(
	ctx context.Context, policy poolkeeper.StartPolicy, log func() *slog.Logger, attempt func(context.Context) error,
) (reached bool, err error) {
	tell := func(what string, attrs ...slog.Attr) {
		log().LogAttrs(ctx, slog.LevelWarn, s.pkg+": "+what, append([]slog.Attr{slog.String("pool", s.Name())}, attrs...)...)
	}
	err = retry.Until(ctx, func(ctx context.Context) error {
		failure := attempt(ctx)
		reached = failure == nil
		return failure
	}, func(f retry.Failure) (again bool, err error) {
		switch policy {
		case poolkeeper.FailFast:
			return false, f.Err
		case poolkeeper.StartDegraded:
			tell("starting without the server", slog.Any("error", f.Err))
			return false, nil
		case poolkeeper.WaitForServer:
		}
		tell("waiting for the server", slog.Int("attempt", f.Attempt), slog.Duration("retry_in", f.Next), slog.Any("error", f.Err))
		return true, nil
	})
	return reached, err
}
