// Package inflight counts work in flight and closes the door behind it.
//
// A [Gate] is what a pool asks on its data path: may this begin, how much is running, how much ran
// at once lately. Draining closes the gate and waits for what is inside.
package inflight

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// closedBit marks a closed gate in Gate.state; the bits below it count.
const closedBit = int64(1) << 62

// Gate counts work between Enter and Leave until it is closed. All methods are safe for concurrent
// use; Enter, Join and Leave do not block and do not allocate.
type Gate struct {
	state atomic.Int64 // closedBit | work in flight
	peak  atomic.Int64 // most in flight since the last call of Peak; may lag behind state by the adds under way

	emptyOnce sync.Once
	empty     chan struct{} // closed when the gate is closed and nothing is in flight
}

// New returns an open gate.
func New() *Gate {
	return &Gate{empty: make(chan struct{})}
}

// Enter admits a piece of work. It reports false, and counts nothing, if the gate is closed.
// After true the caller owes one Leave.
func (g *Gate) Enter() bool {
	n := g.state.Add(1)
	if n&closedBit != 0 {
		g.Leave()
		return false
	}
	g.raise(n)
	return true
}

// Join admits a piece of work that belongs to work already inside, such as a command within an open
// transaction. It is never refused. The caller owes one Leave.
func (g *Gate) Join() {
	g.raise(g.state.Add(1) &^ closedBit)
}

// Leave ends a piece of work that Enter or Join admitted.
func (g *Gate) Leave() {
	if g.state.Add(-1) == closedBit {
		g.signalEmpty()
	}
}

// InFlight returns how much work is inside now.
func (g *Gate) InFlight() int {
	return int(g.state.Load() &^ closedBit)
}

// Peak returns the most work that was in flight at once since the last call of Peak, the present
// included.
func (g *Gate) Peak() int {
	now := g.state.Load() &^ closedBit
	return int(max(g.peak.Swap(now), now))
}

// Close refuses all further Enter calls. It may be called more than once.
func (g *Gate) Close() {
	if g.state.Or(closedBit)&^closedBit == 0 {
		g.signalEmpty()
	}
}

// Closed reports whether Close has been called.
func (g *Gate) Closed() bool {
	return g.state.Load()&closedBit != 0
}

// Empty returns a channel that is closed once the gate is closed and the last piece of work has
// left.
func (g *Gate) Empty() <-chan struct{} {
	return g.empty
}

// Wait blocks until the gate is closed and empty, or ctx ends. Its error wraps context.Cause(ctx)
// and says how much is still inside.
func (g *Gate) Wait(ctx context.Context) error {
	select {
	case <-g.empty:
		return nil
	default:
	}
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d still in flight: %w", g.InFlight(), context.Cause(ctx))
	}
}

func (g *Gate) signalEmpty() {
	g.emptyOnce.Do(func() { close(g.empty) })
}

func (g *Gate) raise(n int64) {
	for {
		p := g.peak.Load()
		if n <= p || g.peak.CompareAndSwap(p, n) {
			return
		}
	}
}
