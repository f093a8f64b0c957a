package sqlpool

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/queue"
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
	wait, use, dial histogram.Recorder
	shortUse        queue.ShortUse // of connections that came back well

	evictedIdle, evictedLifetime, evictedDead, evictedReload, evictedFailover, evictedClosed atomic.Uint64
}

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

// stats returns one moment of the pool.
func (m *manager) stats() poolkeeper.Stats {
	n := &m.metrics
	s := poolkeeper.Stats{
		WaitCount: n.waits.Load(), WaitDuration: time.Duration(n.waited.Load()),
		Dials: n.dials.Load(), DialErrors: n.dialErrors.Load(),
		AcquireTimeouts: n.acquireTimeouts.Load(), Refused: n.refused.Load(), Leaks: n.leaks.Load(),
		Evicted: make(map[string]uint64),
		Wait:    n.wait.Snapshot(), Use: n.use.Snapshot(), Dial: n.dial.Snapshot(),
	}
	s.Acquired = s.Wait.Count // each acquisition is recorded there
	for _, reason := range []string{
		poolkeeper.EvictedIdle, poolkeeper.EvictedLifetime, poolkeeper.EvictedDead,
		poolkeeper.EvictedFailover, poolkeeper.EvictedReload, poolkeeper.EvictedClosed,
	} {
		if closed := n.byReason(reason).Load(); closed > 0 {
			s.Evicted[reason] = closed
		}
	}
	m.back.stats(&s)
	return s
}

// open is how many connections the pool has now.
func (m *manager) open() int { return m.stats().Open }
