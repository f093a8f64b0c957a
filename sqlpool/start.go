package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

const (
	firstRetry = time.Second      // after the first failed attempt of WaitForServer
	lastRetry  = 30 * time.Second // where doubling ends
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
	err := c.reach(ctx)
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
		if c.watch != nil {
			c.watch.Start()
		}
	}
	return nil
}

// reach makes attempts to reach the server.
func (c *core) reach(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w (last of %d attempts: %w)", context.Cause(ctx), attempt, err)
		case c.cfg().Start == StartDegraded:
			c.cfg().Logger.LogAttrs(ctx, slog.LevelWarn, "sqlpool: starting without the server",
				slog.String("pool", c.poolName()), slog.Any("error", err))
			return nil
		case c.cfg().Start == FailFast:
			return err
		}
		delay := retryDelay(attempt, rand.Float64())
		c.cfg().Logger.LogAttrs(ctx, slog.LevelWarn, "sqlpool: waiting for the server", slog.String("pool", c.poolName()),
			slog.Int("attempt", attempt), slog.Duration("retry_in", delay), slog.Any("error", err))
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w (last of %d attempts: %w)", context.Cause(ctx), attempt, err)
		}
	}
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

// retryDelay is how long to wait after a failed attempt, counted from 1: doubling, and up to a quarter less by draw,
// a random number in [0, 1), so that replicas that started together do not knock together.
func retryDelay(attempt int, draw float64) time.Duration {
	d := lastRetry
	if attempt <= 5 { // 1 s << 5 is past lastRetry
		d = min(firstRetry<<(attempt-1), lastRetry)
	}
	return d - time.Duration(draw*float64(d)/4)
}
