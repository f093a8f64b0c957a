package redispool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/retry"
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
	reached := false
	err := p.reach(ctx, &reached)
	if reached {
		p.warnOfLimits(ctx)
	}
	if err = p.endStart(err); err != nil {
		return err
	}
	p.watchFiles()
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
			p.logger().LogAttrs(ctx, slog.LevelError, "redispool: eviction does not start",
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
		if p.watch != nil {
			p.watch.Start()
		}
	}
	return nil
}

// reach makes attempts to reach the server, as many as the policy says, and says whether one has succeeded.
func (p *Pool) reach(ctx context.Context, reached *bool) error {
	attempt := func(ctx context.Context) error {
		err := p.attempt(ctx)
		*reached = err == nil
		return err
	}
	return retry.Until(ctx, attempt, func(f retry.Failure) (again bool, err error) {
		switch p.cfg.Start {
		case FailFast:
			return false, f.Err
		case StartDegraded:
			p.logger().LogAttrs(ctx, slog.LevelWarn, "redispool: starting without the server",
				slog.String("pool", p.poolName()), slog.Any("error", f.Err))
			return false, nil
		case WaitForServer:
		}
		p.logger().LogAttrs(ctx, slog.LevelWarn, "redispool: waiting for the server", slog.String("pool", p.poolName()),
			slog.Int("attempt", f.Attempt), slog.Duration("retry_in", f.Next), slog.Any("error", f.Err))
		return true, nil
	})
}

// attempt is one check (INV-10). That a part of a Cluster is missing is no reason not to start.
func (p *Pool) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	reservation, err := p.checker.check(ctx)
	if reservation != nil {
		p.logger().LogAttrs(ctx, slog.LevelWarn, "redispool: starting with a part of the Cluster",
			slog.String("pool", p.poolName()), slog.Any("error", reservation))
	}
	return asFault(err)
}
