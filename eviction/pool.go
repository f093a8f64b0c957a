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

	// Sweep closes idle connections. It does its I/O outside any lock that a caller of the pool can
	// need, bounds each piece of I/O by itself, and has at most s.Batch connections that stay out
	// of callers' reach meanwhile.
	//
	// It closes, and counts once each:
	//   - Dead: idle connections found to be broken, which for those silent longer than s.KeepAlive (if not 0) means
	//     that they were asked and did not answer. Those that did answer are silent since then;
	//   - Lifetime: idle connections with s.Expired;
	//   - Idle: others, until s.Surplus connections have been closed in this sweep for any of the three reasons.
	//     It stops closing these early when no more than s.MinIdle connections are idle, because demand has risen
	//     since s was decided.
	//
	// Connections in use are never touched: one that has expired is closed by a later sweep, or by
	// the pool itself when it comes back.
	//
	// When ctx ends Sweep returns soon, with what it has done so far. An error is for information:
	// whatever was closed is counted in Swept, and the evictor goes on at its next tick.
	Sweep(ctx context.Context, s Sweep) (Swept, error)

	// Fill sees to it that n connections are idle. It opens the missing ones, one after the other,
	// and before each of them looks anew: it stops as soon as n are idle, because callers have
	// returned theirs meanwhile, or the pool is at its limit. It returns how many it has opened. If
	// the first look finds n idle it does no I/O.
	//
	// When opening fails, Fill returns the error at once; the evictor tries again after a growing
	// delay.
	Fill(ctx context.Context, n int) (int, error)
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
	// MaxLifetime and LifetimeJitter are those of the Policy; see Expired.
	MaxLifetime    time.Duration
	LifetimeJitter float64
}

// Expiry returns when a connection opened at born has reached its lifetime, or the zero time if
// there is no limit. draw is a number in [0, 1) that the pool drew at random when it opened the
// connection and keeps with it, so that a change of policy applies to connections already open.
func (s Sweep) Expiry(born time.Time, draw float64) time.Time {
	if s.MaxLifetime == 0 {
		return time.Time{}
	}
	return born.Add(lifetime(s.MaxLifetime, s.LifetimeJitter, draw))
}

// Expired reports whether a connection opened at born has reached its lifetime by s.Now; see Expiry
// for draw.
func (s Sweep) Expired(born time.Time, draw float64) bool {
	return s.MaxLifetime != 0 && !s.Now.Before(s.Expiry(born, draw))
}

// Swept is what one sweep did.
type Swept struct {
	Idle     int // closed because demand had not needed them
	Lifetime int // closed because they had reached their lifetime
	Dead     int // closed because they were broken

	// Next is when, by what the sweep has seen, a connection will next reach its lifetime or its
	// KeepAlive silence. A time that has passed (an expired connection in use) means: at the next
	// tick. The zero time means that none will before a new one is opened; connections opened after
	// the sweep need not be thought of.
	Next time.Time
}

// Closed returns how many connections the sweep closed.
func (s Swept) Closed() int { return s.Idle + s.Lifetime + s.Dead }
