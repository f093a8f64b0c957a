// Package checkconn keeps the connection that only health checks use.
//
//	Check, Use ──▶ kept? ── yes ──▶ Probe ── answers ──▶ f
//	                 │ no             └ lost ──▶ HangUp ─┐
//	                 └──▶ Dial ◀─────────────────────────┘
//	                       └ the server is full ──▶ Spare: an idle connection of the pool's callers
//
// So a pool whose callers hold every connection counts as busy, not broken. The package knows no
// driver, and does not say what an answer means.
package checkconn

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
)

// Driver is what a Conn asks of the pool that it belongs to. T is the driver's connection.
type Driver[T any] struct {
	// Dial opens a connection, Probe asks it for a sign of life, HangUp closes it.
	Dial   func(ctx context.Context) (T, error)
	Probe  func(ctx context.Context, conn T) error
	HangUp func(ctx context.Context, conn T)
	// Full reports whether an error of Dial says that the server grants no connection more.
	Full func(err error) bool
	// Spare runs f on an idle connection of the pool's callers, which is closed if f returns false.
	// It reports false if none is idle, or f did.
	Spare func(ctx context.Context, f func(context.Context, T) bool) bool
}

// Conn is the connection that only checks use. It is dialled at the first check and kept. It is
// safe for concurrent use.
type Conn[T any] struct {
	Driver[T]

	closing  atomic.Bool    // Close has begun: the check under way closes its connection
	checking ctxmutex.Mutex // to check; guards the following
	conn     *T
	done     bool
}

// New returns a Conn that works by d.
func New[T any](d Driver[T]) *Conn[T] { return &Conn[T]{Driver: d, checking: ctxmutex.New()} }

// Check probes.
func (k *Conn[T]) Check(ctx context.Context) error {
	return k.Use(ctx, func(context.Context, T) error { return nil })
}

// Use probes and then runs f with the connection, which f must leave as it was. A connection kept
// from earlier may have been closed by the server meanwhile, and may be at any moment, so only the
// loss of a fresh one counts: f is run again with another if the kept one is lost under it.
func (k *Conn[T]) Use(ctx context.Context, f func(context.Context, T) error) error {
	if err := k.checking.Lock(ctx); err != nil {
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
	conn, err := k.Dial(ctx)
	if err != nil {
		return k.instead(ctx, f, err)
	}
	k.conn = &conn
	if err := k.Probe(ctx, conn); err != nil {
		k.drop(ctx)
		return err
	}
	return f(ctx, conn)
}

// useKept reports whether the connection turned out to be lost; what f made of it is of no interest
// then. The caller holds checking.
func (k *Conn[T]) useKept(ctx context.Context, f func(context.Context, T) error) (lost bool, err error) {
	if lost = k.Probe(ctx, *k.conn) != nil; !lost {
		err = f(ctx, *k.conn)
		lost = err != nil && ctx.Err() == nil && k.Probe(ctx, *k.conn) != nil
	}
	return lost, err
}

// end unlocks the connection for the next check.
func (k *Conn[T]) end(ctx context.Context) {
	if k.closing.Load() && k.conn != nil { // Close may have lost patience, and does not come again
		k.drop(ctx)
	}
	k.checking.Unlock()
}

// Redial hangs up a connection that is kept: the next check dials anew.
func (k *Conn[T]) Redial(ctx context.Context) {
	if k.checking.Lock(ctx) != nil {
		return // the check under way is of the old kind, and the next finds out
	}
	defer k.checking.Unlock()
	if k.conn != nil {
		k.drop(ctx)
	}
}

func (k *Conn[T]) drop(ctx context.Context) {
	conn := *k.conn
	k.conn = nil
	k.HangUp(ctx, conn)
}

// Close waits for a check under way and hangs up, for good.
func (k *Conn[T]) Close(ctx context.Context) error {
	k.closing.Store(true)
	if err := k.checking.Lock(ctx); err != nil {
		return fmt.Errorf("a check is still under way: %w", err)
	}
	defer k.checking.Unlock()
	k.done = true
	if k.conn != nil {
		k.drop(ctx)
	}
	return nil
}

// instead is for a check whose own connection cannot be opened because of err. If the server is
// full it runs f on an idle connection of the pool's callers, or without one returns a reservation.
func (k *Conn[T]) instead(ctx context.Context, f func(context.Context, T) error, err error) error {
	if !k.Full(err) {
		return err
	}
	var answer error
	asked := k.Spare(ctx, func(ctx context.Context, conn T) bool {
		if k.Probe(ctx, conn) != nil {
			return false
		}
		answer = f(ctx, conn)
		return true
	})
	if asked {
		return answer
	}
	return health.Degraded(err)
}
