package redispool

import (
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
)

// metrics are what the pool counts itself; go-redis counts the rest.
type metrics struct {
	dials, dialErrors, leaks, acquireTimeouts atomic.Uint64

	evicted [reasons]atomic.Uint64
	dial    histogram.Recorder
	wait    histogram.Recorder // of callers that queued
}

// Stats returns the pool's numbers. On a Cluster they are the sums over all nodes, Max included.
// Open and InUse, which MaxOpen bounds, leave out subscriptions and the health check's connection.
// Dials counts those too. Wait covers the callers that had to queue. Use is not measured, because a
// clock for each command would cost more than it tells. Stats takes go-redis' short locks and does
// no I/O.
func (p *Pool) Stats() poolkeeper.Stats {
	s := poolkeeper.Stats{
		Dials: p.met.dials.Load(), DialErrors: p.met.dialErrors.Load(), Leaks: p.met.leaks.Load(),
		AcquireTimeouts: p.met.acquireTimeouts.Load(),
		Dial:            p.met.dial.Snapshot(),
		Evicted:         make(map[string]uint64, int(reasons)-1),
	}
	for r := stays + 1; r < reasons; r++ {
		s.Evicted[r.String()] = p.met.evicted[r].Load()
	}
	s.Wait = p.met.wait.Snapshot()
	s.WaitCount, s.WaitDuration = s.Wait.Count, p.met.wait.Sum()
	for _, n := range p.allNodes() {
		native := n.client.PoolStats()
		s.Max += p.config().MaxOpen
		s.Open += int(native.TotalConns)
		s.Idle += int(native.IdleConns)
		s.Waiting += int(native.PendingRequests) + n.permits.waiting()
		s.WaitCount += uint64(native.WaitCount)
		s.WaitDuration += time.Duration(native.WaitDurationNs)
	}
	if p.target.kind == kindCluster {
		s.Waiting += p.permits.waiting()
	}
	s.InUse = s.Open - s.Idle
	return s
}
