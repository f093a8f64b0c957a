package redispool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
)

const (
	firstRetry = time.Second      // after the first failed attempt of WaitForServer
	lastRetry  = 30 * time.Second // where doubling ends
)

var errStarted = errors.New("redispool: already started")

// Start reaches the server as Config.Start says, then sets eviction, the upkeep of MinIdle and leak reports going. It
// blocks until the server has answered once, has failed to (FailFast, StartDegraded), or ctx ends. If it fails it
// leaves nothing running but the native client, which wants a Stop or Abort; it may be tried again (INV-13).
func (p *Pool) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := p.beginStart(cancel); err != nil {
		return err
	}
	err := p.reach(ctx)
	if err == nil && p.watch != nil {
		p.watch.Start()
	}
	if err = p.endStart(err); err != nil {
		return err
	}
	for _, n := range p.allNodes() {
		p.startNode(ctx, n)
	}
	return nil
}

// startNode sets the node's evictor going, once.
func (p *Pool) startNode(ctx context.Context, n *node) {
	n.startOnce.Do(func() {
		n.addHook()
		if err := n.evictor.Start(ctx); err != nil && !errors.Is(err, eviction.ErrStopped) {
			p.log.LogAttrs(ctx, slog.LevelError, "redispool: eviction does not start",
				slog.String("pool", p.poolName()), slog.Any("error", err))
		}
	})
}

func (p *Pool) beginStart(cancel context.CancelCauseFunc) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.phase >= phaseStopping:
		return fmt.Errorf("redispool: start %q: %w", p.name, poolkeeper.ErrClosed)
	case p.phase == phaseDraining:
		return fmt.Errorf("redispool: start %q: %w", p.name, poolkeeper.ErrDraining)
	case p.phase != phaseNew:
		return fmt.Errorf("redispool: start %q: %w", p.name, errStarted)
	}
	p.phase, p.cancelStart, p.startDone = phaseStarting, cancel, make(chan struct{})
	return nil
}

// endStart makes the outcome known. A Drain or Stop that came meanwhile wins.
func (p *Pool) endStart(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(p.startDone)
	p.cancelStart = nil
	if err != nil {
		if p.phase == phaseStarting {
			p.phase = phaseNew
		}
		return fmt.Errorf("redispool: start %q: %w", p.name, err)
	}
	if p.phase == phaseStarting {
		p.phase = phaseRunning
	}
	return nil
}

// reach makes attempts to reach the server.
func (p *Pool) reach(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := p.attempt(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w (last of %d attempts: %w)", context.Cause(ctx), attempt, err)
		case p.cfg.Start == StartDegraded:
			p.log.LogAttrs(ctx, slog.LevelWarn, "redispool: starting without the server",
				slog.String("pool", p.poolName()), slog.Any("error", err))
			return nil
		case p.cfg.Start == FailFast:
			return err
		}
		delay := retryDelay(attempt, rand.Float64())
		p.log.LogAttrs(ctx, slog.LevelWarn, "redispool: waiting for the server", slog.String("pool", p.poolName()),
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

// attempt is one check (INV-10).
func (p *Pool) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	return asFault(p.checker.check(ctx))
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
