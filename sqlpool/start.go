package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

var errStarted = errors.New("sqlpool: already started")

// start reaches the server as the policy says, then sets eviction and leak reports going. If it fails it leaves
// nothing of its own running (INV-13); the handle still wants a Stop.
func (c *core) start(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := c.beginStart(cancel); err != nil {
		return err
	}
	reached := false
	err := c.reach(ctx, &reached)
	if reached {
		c.warnOfLimits(ctx)
	}
	if err == nil && c.evictor != nil {
		err = c.evictor.Start(ctx)
	}
	return c.endStart(err)
}

func (c *core) beginStart(cancel context.CancelCauseFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase >= phaseStopping:
		return fmt.Errorf("sqlpool: start %q: %w", c.name, poolkeeper.ErrClosed)
	case c.phase == phaseDraining:
		return fmt.Errorf("sqlpool: start %q: %w", c.name, poolkeeper.ErrDraining)
	case c.phase != phaseNew:
		return fmt.Errorf("sqlpool: start %q: %w", c.name, errStarted)
	}
	c.phase, c.cancelStart, c.startDone = phaseStarting, cancel, make(chan struct{})
	return nil
}

// endStart makes the outcome known. A Drain or Stop that came meanwhile wins.
func (c *core) endStart(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(c.startDone)
	c.cancelStart = nil
	if err != nil {
		if c.phase == phaseStarting {
			c.phase = phaseNew // it may be tried again
		}
		return fmt.Errorf("sqlpool: start %q: %w", c.name, err)
	}
	if c.phase == phaseStarting {
		c.phase = phaseRunning
		for _, w := range c.watches {
			w.Start()
		}
	}
	return nil
}

// reach makes attempts to reach the server, as many as the policy says, and says whether one has succeeded.
func (c *core) reach(ctx context.Context, reached *bool) error {
	attempt := func(ctx context.Context) error {
		err := c.attempt(ctx)
		*reached = err == nil
		return err
	}
	return retry.Until(ctx, attempt, func(f retry.Failure) (again bool, err error) {
		switch c.cfg().Start {
		case FailFast:
			return false, f.Err
		case StartDegraded:
			c.cfg().Logger.LogAttrs(ctx, slog.LevelWarn, "sqlpool: starting without the server",
				slog.String("pool", c.poolName()), slog.Any("error", f.Err))
			return false, nil
		case WaitForServer:
		}
		c.cfg().Logger.LogAttrs(ctx, slog.LevelWarn, "sqlpool: waiting for the server", slog.String("pool", c.poolName()),
			slog.Int("attempt", f.Attempt), slog.Duration("retry_in", f.Next), slog.Any("error", f.Err))
		return true, nil
	})
}

// attempt is one check, bounded by DialTimeout (INV-10).
func (c *core) attempt(ctx context.Context) error {
	if c.cfg().DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg().DialTimeout)
		defer cancel()
	}
	return c.back.check(ctx)
}
