package sqlpool

import (
	"context"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
)

// pingLimit is how long an idle connection may take to answer a ping before it counts as dead.
const pingLimit = 2 * time.Second

// The bounds of EvictionInterval's default, which are eviction's too.
const (
	minInterval = 10 * time.Millisecond
	maxInterval = 30 * time.Second
)

// sweepContext marks a checkout by the pool itself: of an idle connection or of none. It is
// compared by type, which costs other checkouts next to nothing.
type sweepContext struct{ context.Context } //nolint:containedctx // it is a context

func (c config) policy() eviction.Policy {
	often := c.KeepAlive / 4
	if c.EvictionInterval == 0 && often > 0 && (c.MaxIdleTime == 0 || often < c.MaxIdleTime/10) && often < maxInterval {
		c.EvictionInterval = max(often, minInterval) // or silence would be noticed too late
	}
	return eviction.Policy{
		MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter,
		KeepAlive: c.KeepAlive, Interval: c.EvictionInterval,
	}
}

// candidate is an idle connection that a sweep has taken out of its pool.
type candidate[T any] struct {
	times

	conn   T
	mute   bool   // it cannot be pinged
	reason string // why it is to be closed
}

// forEviction is what eviction has to know of a connection.
func (t *times) forEviction(mute bool) eviction.Conn {
	return eviction.Conn{Born: t.born, Draw: t.draw, Heard: t.seen, Mute: mute}
}

// choose sorts the idle connections by what the order makes of them, the coldest first in each:
// those to be closed, those to be pinged now, and those that go back at once. needed is how many
// callers wait for a connection. It reports whether another pass is needed for more pings.
func choose[T any](
	c *base, idle []candidate[T], o eviction.Sweep, needed int,
) (drop, ask, rest []candidate[T], again bool) {
	slices.SortStableFunc(idle, func(a, b candidate[T]) int { return a.used.Compare(b.used) })
	conns := make([]eviction.Conn, len(idle))
	for i := range idle {
		x := &idle[i]
		x.reason = c.condemned(&x.times)
		conns[i] = x.forEviction(x.mute)
		conns[i].Condemned = x.reason != ""
	}
	actions, again := o.Choose(conns, needed)
	for i, x := range idle {
		switch actions[i] {
		case eviction.ActionKeep:
			rest = append(rest, x)
			continue
		case eviction.ActionPing:
			ask = append(ask, x)
			continue
		case eviction.ActionCloseSurplus:
			x.reason = poolkeeper.EvictedIdle
		case eviction.ActionCloseExpired:
			x.reason = poolkeeper.EvictedLifetime
		case eviction.ActionCloseCondemned: // its reason is known
		}
		drop = append(drop, x)
	}
	return drop, ask, rest, again
}
