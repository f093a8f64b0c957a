package sqlpool

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/latest"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// metrics are the counters of one pool.
type metrics struct {
	waits           atomic.Uint64 // acquisitions that had to wait
	waited          atomic.Int64  // nanoseconds in them
	dials           atomic.Uint64
	dialErrors      atomic.Uint64
	acquireTimeouts atomic.Uint64
	refused         atomic.Uint64 // acquisitions refused at once
	leaks           atomic.Uint64
	reclaimed       atomic.Uint64
	generations     atomic.Uint64 // how often all connections were replaced; a Pause counts once
	wait, use, dial histogram.Recorder
	shortUse        queue.ShortUse // of connections that came back well

	dialError latest.DialError
	fleet     latest.Fleet

	evictedIdle, evictedLifetime, evictedDead, evictedReload, evictedFailover, evictedClosed atomic.Uint64
}

// failed notes why an attempt to open a connection has failed: of the pool, of a check or a trial.
func (m *metrics) failed(err error) { m.dialError.Note(fault.Wrap(err)) }

// evicted counts a connection that the pool closed.
func (m *metrics) evicted(reason string) {
	if n := m.byReason(reason); n != nil {
		n.Add(1)
	}
}

// countRefusal counts an acquisition that ended with err, if it was refused at once.
func (m *metrics) countRefusal(err error) {
	down, tooMany := errors.Is(err, poolkeeper.ErrDown), errors.Is(err, poolkeeper.ErrTooManyWaiting)
	if (down || tooMany) && !isTimeout(err) {
		m.refused.Add(1)
	}
}

func (m *metrics) byReason(reason string) *atomic.Uint64 {
	switch reason {
	case poolkeeper.EvictedIdle:
		return &m.evictedIdle
	case poolkeeper.EvictedLifetime:
		return &m.evictedLifetime
	case poolkeeper.EvictedDead:
		return &m.evictedDead
	case poolkeeper.EvictedReload:
		return &m.evictedReload
	case poolkeeper.EvictedFailover:
		return &m.evictedFailover
	case poolkeeper.EvictedClosed:
		return &m.evictedClosed
	default:
		return nil
	}
}

// evictions are all reasons with their counts.
func (m *metrics) evictions() map[string]uint64 {
	return map[string]uint64{
		poolkeeper.EvictedIdle: m.evictedIdle.Load(), poolkeeper.EvictedLifetime: m.evictedLifetime.Load(),
		poolkeeper.EvictedDead: m.evictedDead.Load(), poolkeeper.EvictedFailover: m.evictedFailover.Load(),
		poolkeeper.EvictedReload: m.evictedReload.Load(), poolkeeper.EvictedClosed: m.evictedClosed.Load(),
	}
}

// stats returns one moment of the pool.
func (m *manager) stats() poolkeeper.Stats {
	n := &m.metrics
	s := poolkeeper.Stats{
		WaitCount: n.waits.Load(), WaitDuration: time.Duration(n.waited.Load()),
		Dials: n.dials.Load(), DialErrors: n.dialErrors.Load(),
		AcquireTimeouts: n.acquireTimeouts.Load(), Refused: n.refused.Load(),
		Leaks: n.leaks.Load(), Reclaimed: n.reclaimed.Load(),
		Evicted: n.evictions(),
		Wait:    n.wait.Snapshot(), Use: n.use.Snapshot(), Dial: n.dial.Snapshot(),
		MinIdle: m.cfg().MinIdle, Paused: m.paused.Load(), Generation: n.generations.Load(),
	}
	s.Acquired = s.Wait.Count // each acquisition is recorded there
	n.dialError.Report(&s)
	n.fleet.Report(&s)
	if d := m.down(); d != nil {
		s.DownSince = d.Since
	}
	if m.evictor != nil {
		s.SweepLate = m.evictor.Late()
	}
	m.back.stats(&s) // which brings the holders up to date
	s.OldestHold = m.held.OldestHold(time.Now(), "")
	return s
}

// open is how many connections the pool has now.
func (m *manager) open() int { return m.stats().Open }
