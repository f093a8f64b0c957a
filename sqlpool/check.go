package sqlpool

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/turn"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// check asks the server for a sign of life. Before Start it may be asked too.
func (c *core) check(ctx context.Context) error {
	if c.state.At() >= life.Stopping {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), poolkeeper.ErrClosed)
	}
	if err := c.back.check(ctx); err != nil {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), fault.Wrap(err))
	}
	c.breaker.Answer()
	return nil
}

// checkConn is the connection that only checks use: a pool whose callers hold every connection is
// busy, not broken. It is dialled at the first check and kept. T is the driver's connection.
type checkConn[T any] struct {
	dial   func(ctx context.Context) (T, error)
	probe  func(ctx context.Context, conn T) error
	hangUp func(ctx context.Context, conn T)
	// spare runs f on an idle connection of the pool's callers, which is closed if f returns false.
	// It reports false if none is idle, or f did.
	spare func(ctx context.Context, f func(context.Context, T) bool) bool

	closing atomic.Bool // close has begun: the check that has the turn closes its connection
	turn    turn.Turn   // to check; guards the following
	conn    *T
	done    bool
}

// check probes.
func (k *checkConn[T]) check(ctx context.Context) error {
	return k.use(ctx, func(context.Context, T) error { return nil })
}

// use probes and then runs f with the connection, which f must leave as it was. A connection kept
// from earlier may have been closed by the server meanwhile, and may be at any moment, so only the
// loss of a fresh one counts: f is run again with another if the kept one is lost under it.
func (k *checkConn[T]) use(ctx context.Context, f func(context.Context, T) error) error {
	if err := k.turn.Take(ctx); err != nil {
		return fmt.Errorf("another check is still under way: %w", err)
	}
	defer k.end(ctx)
	if k.done {
		return poolkeeper.ErrClosed
	}
	if k.conn != nil {
		if lost, err := k.useKept(ctx, f); !lost {
			return err
		}
		k.drop(ctx)
	}
	conn, err := k.dial(ctx)
	if err != nil {
		return k.instead(ctx, f, err)
	}
	k.conn = &conn
	if err := k.probe(ctx, conn); err != nil {
		k.drop(ctx)
		return err
	}
	return f(ctx, conn)
}

// useKept reports whether the connection turned out to be lost; what f made of it is of no interest
// then. It needs the turn.
func (k *checkConn[T]) useKept(ctx context.Context, f func(context.Context, T) error) (lost bool, err error) {
	if lost = k.probe(ctx, *k.conn) != nil; !lost {
		err = f(ctx, *k.conn)
		lost = err != nil && ctx.Err() == nil && k.probe(ctx, *k.conn) != nil
	}
	return lost, err
}

// end gives the turn back.
func (k *checkConn[T]) end(ctx context.Context) {
	if k.closing.Load() && k.conn != nil { // close may have lost patience, and does not come again
		k.drop(ctx)
	}
	k.turn.End()
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
