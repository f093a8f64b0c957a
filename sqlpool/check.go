package sqlpool

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/turn"
)

// check asks the server for a sign of life. Before Start it may be asked too.
func (c *core) check(ctx context.Context) error {
	if c.state.At() >= life.Stopping {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), poolkeeper.ErrClosed)
	}
	if err := c.back.check(ctx); err != nil {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), asFault(err))
	}
	return nil
}

// checkConn is the connection that only checks use: a pool whose callers hold every connection is busy, not broken.
// It is dialled at the first check and kept. T is the driver's connection.
type checkConn[T any] struct {
	dial   func(ctx context.Context) (T, error)
	probe  func(ctx context.Context, conn T) error
	hangUp func(ctx context.Context, conn T)

	closing atomic.Bool // close has begun: whoever has the turn leaves nothing behind
	turn    turn.Turn   // to check; guards the following
	conn    *T
	done    bool
}

func newCheckConn[T any](dial func(context.Context) (T, error), probe func(context.Context, T) error, hangUp func(context.Context, T)) *checkConn[T] {
	return &checkConn[T]{dial: dial, probe: probe, hangUp: hangUp, turn: turn.New()}
}

// check probes. A connection kept from an earlier check may have been closed by the server meanwhile, so only the
// failure of a fresh one counts.
func (k *checkConn[T]) check(ctx context.Context) error {
	if err := k.turn.Take(ctx); err != nil {
		return fmt.Errorf("another check is still under way: %w", err)
	}
	defer k.end(ctx)
	if k.done {
		return poolkeeper.ErrClosed
	}
	if k.conn != nil {
		if err := k.probe(ctx, *k.conn); err == nil {
			return nil
		}
		k.drop(ctx)
	}
	conn, err := k.dial(ctx)
	if err != nil {
		return err
	}
	k.conn = &conn
	if err := k.probe(ctx, conn); err != nil {
		k.drop(ctx)
		return err
	}
	return nil
}

// end gives the turn back.
func (k *checkConn[T]) end(ctx context.Context) {
	if k.closing.Load() && k.conn != nil { // close may have lost patience, and does not come again
		k.drop(ctx)
	}
	k.turn.End()
}

// use runs f with the connection that checks use, dialling it if need be. f must leave it as it was.
func (k *checkConn[T]) use(ctx context.Context, f func(context.Context, T) error) error {
	for {
		if err := k.check(ctx); err != nil {
			return err
		}
		if used, err := k.useKept(ctx, f); used {
			return err
		} // it was forgotten in between: once more
	}
}

// useKept runs f with the connection that is kept. It reports false if there is none.
func (k *checkConn[T]) useKept(ctx context.Context, f func(context.Context, T) error) (used bool, err error) {
	if err := k.turn.Take(ctx); err != nil {
		return true, fmt.Errorf("a check is under way: %w", err)
	}
	defer k.end(ctx)
	switch {
	case k.done:
		return true, poolkeeper.ErrClosed
	case k.conn == nil:
		return false, nil
	default:
		return true, f(ctx, *k.conn)
	}
}

// forget hangs up a connection that is kept: the next check dials anew.
func (k *checkConn[T]) forget(ctx context.Context) {
	if k.turn.Take(ctx) != nil {
		return // the check under way is of the old kind, and the next finds out
	}
	defer k.turn.End()
	if k.conn != nil {
		k.drop(ctx)
	}
}

func (k *checkConn[T]) drop(ctx context.Context) {
	conn := *k.conn
	k.conn = nil
	k.hangUp(ctx, conn)
}

// close waits for a check under way and hangs up, for good.
func (k *checkConn[T]) close(ctx context.Context) error {
	k.closing.Store(true)
	if err := k.turn.Take(ctx); err != nil {
		return fmt.Errorf("a check is still under way: %w", err)
	}
	defer k.turn.End()
	k.done = true
	if k.conn != nil {
		k.drop(ctx)
	}
	return nil
}
