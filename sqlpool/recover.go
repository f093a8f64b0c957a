package sqlpool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// times are what eviction wants to know of a connection. All of them keep their monotonic reading,
// so that a wall clock that is set changes no decision.
type times struct {
	born time.Time // when it was opened
	draw float64   // of its lifetime's jitter

	generation uint64 // of the pool when its dial began

	used time.Time // when a caller returned it last; when it was opened, if none has
	seen time.Time // when it last gave a sign of life
}

// expired reports whether a connection has reached its lifetime at now.
func (t *times) expired(c *config, now time.Time) bool {
	return eviction.Sweep{Now: now, MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter}.Expired(t.born, t.draw)
}

// answeredSince reports whether the connection has given a sign of life since then.
func (t *times) answeredSince(then monotime.Time) bool { return monotime.Of(t.seen) > then }

// silentSince reports whether a connection has given no sign of life since mark, a monotime.Time. A
// connection whose dial began after mark has.
func (t *times) silentSince(mark int64) bool { return int64(monotime.Of(t.seen)) < mark }

const (
	resetFirst = time.Second      // least time between two generations that are thrown away for being read-only
	resetLast  = 30 * time.Second // where doubling ends, as long as new connections are read-only too
)

// recovery is what a pool has learnt from connections that failed, for the sake of those that have
// not been tried yet.
//
//	a connection dies in use ──▶ suspicion: every connection silent since before is pinged before its next use
//	such a ping fails        ──▶ condemned: all of them are closed, so that callers do not each find out for themselves
//	a write is refused as    ──▶ reset: the server was demoted, and the whole generation goes, so that the name is
//	read-only                    resolved anew
//
// The data path reads atomics only.
type recovery struct {
	generation atomic.Uint64 // of connections dialled from now on
	suspected  atomic.Int64  // a monotime.Time; connections silent since before are suspect; 0: none
	condemned  atomic.Int64  // the same, of connections that must not be used

	mu       sync.Mutex    // guards the following
	reason   string        // why the last generation was thrown away
	next     monotime.Time // no sooner is another thrown away for being read-only
	pause    time.Duration
	found    bool          // a seeker has brought about a reset since next was set
	toldLost monotime.Time // when it was last said that connections do not answer a ping; 0: never
}

// stale says why a connection must not be used any more, or "".
func (c *base) stale(t *times, now time.Time) string {
	if t.expired(c.cfg(), now) {
		return poolkeeper.EvictedLifetime
	}
	return c.condemned(t)
}

// condemned says why a connection is to be closed at any age: it was reset, or is believed dead.
// Empty: it is not.
func (c *base) condemned(t *times) string {
	switch {
	case t.generation < c.recovery.generation.Load():
		return c.resetReason()
	case t.silentSince(c.recovery.condemned.Load()):
		return poolkeeper.EvictedDead
	default:
		return ""
	}
}

func (c *base) resetReason() string {
	c.recovery.mu.Lock()
	defer c.recovery.mu.Unlock()
	return c.recovery.reason
}

// suspectLimit is how long a suspect connection may take to answer.
func (c *base) suspectLimit() time.Duration { return c.link.Limit(c.cfg().SuspectPing) }

// suspect says whether a connection is to be pinged before it is used.
func (c *base) suspect(t *times) bool {
	return c.cfg().SuspectPing != poolkeeper.Off && t.silentSince(c.recovery.suspected.Load())
}

// lostLately says whether a connection has died lately: sessions that are ended all at once do not
// end all at once.
func (c *base) lostLately(now time.Time) bool {
	return monotime.Of(now).Sub(monotime.Time(c.recovery.suspected.Load())) < time.Second
}

// noteDiedInUse raises suspicion against every connection that has been silent until now. cause is
// the last error seen of the connection. A caller that gave up says nothing about the server.
func (c *base) noteDiedInUse(cause error, now time.Time) {
	if !errors.Is(cause, context.Canceled) {
		c.recovery.suspected.Store(int64(monotime.Of(now)))
	}
}

// noteSilent condemns every connection that has been silent since before the suspicion: nothing
// is learnt by having each caller find out for itself. Several callers may ping in vain in one
// incident, which is one event.
func (c *base) noteSilent(of reporter) {
	now := monotime.Now()
	c.recovery.mu.Lock()
	again := c.recovery.toldLost != 0 && now.Sub(c.recovery.toldLost) < resetLast
	c.recovery.toldLost = now
	c.recovery.mu.Unlock()
	open := of.Open()
	mark := c.recovery.suspected.Load()
	if c.recovery.condemned.Swap(mark) != mark {
		c.link.Condemned()
	}
	of.flush()
	if !again {
		c.metrics.generations.Add(1)
		c.events.Emit(event.OfReset(event.Lost, open, nil))
	}
}

// reset throws away every connection dialled so far: idle ones now, those in use when they come
// back.
func (m *manager) reset(reason string) {
	m.metrics.generations.Add(1)
	m.outdate(reason)
}

// outdate is reset that Stats does not count.
func (m *manager) outdate(reason string) {
	m.recovery.mu.Lock()
	m.recovery.reason = reason
	m.recovery.mu.Unlock()
	m.recovery.generation.Add(1)
	m.back.flush()
}

// resetOnRequest is reset for a caller of the pool's.
func (m *manager) resetOnRequest() {
	m.events.Emit(event.OfReset(event.OnRequest, m.open(), nil))
	m.reset(poolkeeper.EvictedReload)
}

// failedOver resets the pool because the server has another role than before.
func (m *manager) failedOver() {
	if n := m.open(); n > 0 {
		m.events.Emit(event.OfReset(event.RoleChanged, n, nil))
	}
	m.reset(poolkeeper.EvictedFailover)
}

// noteRefusedWrite resets the pool because a write was refused on a connection of the given
// generation. At most once a second, and less often as long as it does not help; meanwhile seekers
// look for the promoted server.
func (c *base) noteRefusedWrite(of reporter, generation uint64, err error) {
	if c.cfg().DisableResetOnReadOnly || generation < c.recovery.generation.Load() {
		return
	}
	now := monotime.Now()
	c.recovery.mu.Lock()
	if now < c.recovery.next {
		pause, found := c.recovery.pause, c.recovery.found
		c.recovery.mu.Unlock()
		if !found {
			c.onRefusedWrite(err, pause)
		}
		return
	}
	if now.Sub(c.recovery.next) > resetLast {
		c.recovery.pause = 0 // the last time was another incident
	}
	c.recovery.pause = min(max(2*c.recovery.pause, resetFirst), resetLast)
	c.recovery.next = now.Add(c.recovery.pause)
	c.recovery.found = false
	c.recovery.reason = poolkeeper.EvictedFailover
	c.recovery.generation.Add(1) // under the lock: a caller that returns above can rely on it
	c.recovery.mu.Unlock()
	c.metrics.generations.Add(1)
	open := of.Open()
	of.flush()
	c.events.Emit(event.OfReset(event.Demoted, open, err))
}

// promoted resets the pool because a seeker has found a server that takes writes. Where the name
// leads to several servers the seeker may be the only one that gets there, so that this happens once
// between two resets of noteRefusedWrite. generation is that of the seeker's dial: connections of a
// later one may be as new.
func (m *manager) promoted(generation uint64, err error) {
	m.recovery.mu.Lock()
	if m.recovery.found || m.recovery.generation.Load() != generation {
		m.recovery.mu.Unlock()
		return
	}
	m.recovery.found = true
	m.recovery.reason = poolkeeper.EvictedFailover
	m.recovery.generation.Add(1)
	m.recovery.mu.Unlock()
	m.metrics.generations.Add(1)
	open := m.open()
	m.back.flush()
	m.events.Emit(event.OfReset(event.Demoted, open, err))
}
