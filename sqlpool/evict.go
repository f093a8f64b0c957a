package sqlpool

import (
	"context"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
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
	if often := c.KeepAlive / 4; c.EvictionInterval == 0 && often > 0 && (c.MaxIdleTime == 0 || often < c.MaxIdleTime/10) && often < maxInterval {
		c.EvictionInterval = max(often, minInterval) // or silence would be noticed too late
	}
	return eviction.Policy{
		MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter,
		KeepAlive: c.KeepAlive, Interval: c.EvictionInterval,
	}
}

// times are what eviction wants to know of a connection. All of them keep their monotonic reading,
// so that a wall clock that is set changes no decision.
type times struct {
	born time.Time // when it was opened
	draw float64   // of its lifetime's jitter

	generation uint64 // of the pool when its dial began

	used time.Time // when a caller returned it last; when it was opened, if none has
	seen time.Time // when it last gave a sign of life
}

// expired reports whether a connection has reached its lifetime at now: eviction's rule, for
// connections in use.
func (t *times) expired(c *config, now time.Time) bool {
	spread := time.Duration(float64(c.MaxLifetime) * c.LifetimeJitter * t.draw)
	return c.MaxLifetime > 0 && now.Sub(t.born) >= c.MaxLifetime-spread
}

// answeredSince reports whether the connection has given a sign of life since then.
func (t *times) answeredSince(then monotime.Time) bool { return monotime.Of(t.seen) > then }

// silentSince reports whether a connection has given no sign of life since mark, a monotime.Time. A
// connection whose dial began after mark has.
func (t *times) silentSince(mark int64) bool { return int64(monotime.Of(t.seen)) < mark }

// candidate is an idle connection that a sweep has taken out of its pool.
type candidate[T any] struct {
	times

	conn   T
	mute   bool   // it cannot be pinged
	reason string // why it is to be closed
}

// choose decides, the coldest first, which of the idle connections are to be closed, which are to
// be pinged now, and which go back at once. It counts the first in out.
func choose[T any](c *core, idle []candidate[T], o eviction.Sweep, out *eviction.Swept) (drop, ask, rest []candidate[T]) {
	slices.SortStableFunc(idle, func(a, b candidate[T]) int { return a.used.Compare(b.used) })
	var live []candidate[T]
	for _, x := range idle {
		x.reason = c.stale(&x.times, o.Now)
		if x.reason == "" {
			live = append(live, x)
			continue
		}
		*counter(out, x.reason)++
		drop = append(drop, x)
	}
	surplus := min(o.Surplus-len(drop), len(live)-o.MinIdle)
	for i, x := range live {
		switch {
		case i < surplus:
			x.reason = poolkeeper.EvictedIdle
			*counter(out, x.reason)++
			drop = append(drop, x)
		case o.KeepAlive > 0 && !x.mute && o.Now.Sub(x.seen) >= o.KeepAlive && len(ask) < o.Batch:
			ask = append(ask, x)
		default:
			rest = append(rest, x)
		}
	}
	return drop, ask, rest
}

// counter is where out counts connections that are closed for this reason.
func counter(out *eviction.Swept, reason string) *int {
	switch reason {
	case poolkeeper.EvictedIdle:
		return &out.Idle
	case poolkeeper.EvictedLifetime:
		return &out.Lifetime
	default:
		return &out.Dead
	}
}

// soonest collects when a connection next reaches its lifetime or its silence, as
// eviction.Swept.Next wants it.
type soonest struct {
	order eviction.Sweep
	at    time.Time
}

func (s *soonest) add(t times, mute bool) {
	// One that has expired and is in use is closed when it comes back.
	if e := s.order.Expiry(t.born, t.draw); !e.IsZero() && e.After(s.order.Now) {
		s.sooner(e)
	}
	if s.order.KeepAlive > 0 && !mute {
		s.sooner(t.seen.Add(s.order.KeepAlive))
	}
}

func (s *soonest) sooner(t time.Time) {
	if s.at.IsZero() || t.Before(s.at) {
		s.at = t
	}
}
