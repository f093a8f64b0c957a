package redispool

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
)

// metrics are what the pool counts itself; go-redis counts the rest.
type metrics struct {
	dials, dialErrors, leaks, acquireTimeouts, refused atomic.Uint64

	evicted [reasons]atomic.Uint64
	dial    histogram.Recorder
	wait    histogram.Recorder // of callers that queued
}

// Stats returns the pool's numbers. On a Cluster they are the sums over all nodes, Max included.
// Open and InUse, which MaxOpen bounds, leave out subscriptions and the health check's connection.
// Dials counts those too. Acquired is go-redis' count of checkouts, the pool's own included. Wait
// covers the callers that had to queue. Use is not measured, because a clock for each command would
// cost more than it tells. Stats takes go-redis' short locks and does no I/O.
func (p *Pool) Stats() poolkeeper.Stats {
	s := poolkeeper.Stats{
		Dials: p.met.dials.Load(), DialErrors: p.met.dialErrors.Load(), Leaks: p.met.leaks.Load(),
		AcquireTimeouts: p.met.acquireTimeouts.Load(), Refused: p.met.refused.Load(),
		Dial:    p.met.dial.Snapshot(),
		Evicted: make(map[string]uint64, int(reasons)-1),
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
		s.Acquired += n.acquired.total(native.Hits + native.Misses)
		s.WaitCount += uint64(native.WaitCount)
		s.WaitDuration += time.Duration(native.WaitDurationNs)
	}
	if p.target.kind == kindCluster {
		s.Waiting += p.permits.waiting()
	}
	s.InUse = s.Open - s.Idle
	return s
}

// odometer makes a total of one of go-redis' counters, which begin anew after 2³² checkouts.
type odometer struct {
	mu   sync.Mutex // guards the following
	seen uint32     // the counter when it was last read
	sum  uint64
}

// total returns the total at a moment at which the counter is at n. It must be called at least once
// in 2³¹ checkouts.
func (o *odometer) total(n uint32) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ahead := n - o.seen; ahead < 1<<31 { // else a reading that was overtaken by another
		o.sum += uint64(ahead)
		o.seen = n
	}
	return o.sum
}
