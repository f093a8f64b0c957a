package eviction

import (
	"context"
	"time"
)

// Pool is what an [Evictor] needs of a connection pool. The evictor calls Peak, Sweep and Fill from
// one goroutine at a time, and holds no lock while it does. Open may be called at any time from any
// goroutine. None of them may call back into the evictor, except for [Evictor.Wake].
type Pool interface {
	// Open returns how many connections are open now, in use and idle. It must not block: it is
	// asked at every tick.
	Open() int

	// Peak returns the most connections that were in use at once since the last call of Peak, the
	// present included; callers that wait for a connection may be counted as using one. It must not
	// block.
	Peak() int

	// Sweep does with the idle connections what s.Choose says. It does its I/O outside any lock that
	// a caller of the pool can need, bounds each piece of I/O by itself, and keeps at most s.Batch
	// connections out of callers' reach meanwhile. Connections in use are never touched: one that
	// has expired is closed by a later sweep, or by the pool itself when it comes back.
	//
	// It returns s.Next of the open connections: when one of them next comes due. A time that has
	// passed means: at the next tick. The zero time means that none will before a new one is opened;
	// connections opened after the sweep need not be thought of.
	//
	// When ctx ends Sweep returns soon. Errors are the pool's to report: the evictor goes on at its
	// next tick.
	Sweep(ctx context.Context, s Sweep) (next time.Time)

	// Fill sees to it that n connections are idle. It opens the missing ones, one after the other,
	// and before each of them looks anew: it stops as soon as n are idle, because callers have
	// returned theirs meanwhile, or the pool is at its limit. If the first look finds n idle it does
	// no I/O.
	//
	// When opening fails, Fill returns the error at once; the evictor tries again after a growing
	// delay.
	Fill(ctx context.Context, n int) error
}

// Sweep is the order for one sweep, decided by an [Evictor].
type Sweep struct {
	// Surplus is how many connections may be closed because demand has not needed them for
	// MaxIdleTime. May be 0.
	Surplus int
	// Batch is how many connections may be out of callers' reach at once during I/O. At least 1.
	Batch int
	// MinIdle is how many connections stay idle at least.
	MinIdle int
	// Now is the time of the decision, for comparing with the ages of connections.
	Now time.Time
	// KeepAlive is the silence after which an idle connection is asked whether it lives; 0: it is
	// not asked.
	KeepAlive time.Duration
	// MaxLifetime and LifetimeJitter are those of the Policy; 0: no limit.
	MaxLifetime    time.Duration
	LifetimeJitter float64
}
