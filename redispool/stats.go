package redispool

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/latest"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// counter is something that metrics count.
type counter int

const (
	dialsDone counter = iota
	dialsFailed
	leaks
	acquireTimeouts
	refusals
	generationsLost // how often connections were replaced all at once
	counters        // how many there are
)

// metrics are what the pool counts itself; go-redis counts the rest. On a Cluster each node has its
// own, and the pool those of all nodes.
type metrics struct {
	all *metrics // what a node counts is counted there too; nil: these are the pool's

	counts  [counters]atomic.Uint64
	evicted [reasons]atomic.Uint64
	dial    histogram.Recorder
	wait    histogram.Recorder // of callers that queued

	dialError latest.DialError
}

func (m *metrics) count(c counter) {
	for ; m != nil; m = m.all {
		m.counts[c].Add(1)
	}
}

func (m *metrics) countEvicted(why reason) {
	for ; m != nil; m = m.all {
		m.evicted[why].Add(1)
	}
}

func (m *metrics) dialTook(d time.Duration) {
	for ; m != nil; m = m.all {
		m.dial.Record(d)
	}
}

func (m *metrics) waited(d time.Duration) {
	for ; m != nil; m = m.all {
		m.wait.Record(d)
	}
}

// failed notes why an attempt to open a connection has failed: of the pool, of a check or a trial.
func (m *metrics) failed(err error) {
	err = asFault(err)
	for ; m != nil; m = m.all {
		m.dialError.Note(err)
	}
}

// stats returns what m counts.
func (m *metrics) stats() poolkeeper.Stats {
	s := poolkeeper.Stats{
		Dials: m.counts[dialsDone].Load(), DialErrors: m.counts[dialsFailed].Load(), Leaks: m.counts[leaks].Load(),
		AcquireTimeouts: m.counts[acquireTimeouts].Load(), Refused: m.counts[refusals].Load(),
		Generation: m.counts[generationsLost].Load(),
		Wait:       m.wait.Snapshot(), Dial: m.dial.Snapshot(),
		Evicted: make(map[string]uint64, int(reasons)-1),
	}
	for r := stays + 1; r < reasons; r++ {
		s.Evicted[r.String()] = m.evicted[r].Load()
	}
	s.WaitCount, s.WaitDuration = s.Wait.Count, m.wait.Sum()
	m.dialError.Report(&s)
	return s
}

// Stats returns the pool's numbers. It takes go-redis' short locks and does no I/O.
//
// Open and InUse, which MaxOpen bounds, leave out subscriptions and the health check's connection.
// Dials includes both. Acquired is go-redis' count of checkouts, the pool's own included. Wait covers
// the callers that had to wait. Use is empty, to spare each command a clock. OldestHold leaves out
// subscriptions. LastDialError includes dials of checks, and logins that the server refused. Fleet is
// the result of the last Limits that succeeded: at Start, after a Reload, or by a caller.
//
// On a Cluster the numbers are sums over all nodes, and Members has each node. DownSince is the
// earliest of all nodes, and SweepLate the longest. Leaks and OldestHold are known of the pool only.
// The last check tells whether a node is a primary, unless the user may not run ROLE. A member's
// Score is known where Isolation is on and the node has had enough commands.
func (p *Pool) Stats() poolkeeper.Stats {
	s := p.met.stats()
	s.Paused = p.permits.isPaused()
	p.fleet.Report(&s)
	isCluster := p.target.kind == kindCluster
	nodes, gone := p.nodesAndGone()
	if isCluster {
		s.Waiting = p.permits.waiting()
		s.Members = make([]poolkeeper.MemberStats, 0, len(nodes))
	}
	sum.Add(&s, &gone)
	for _, n := range nodes {
		native := n.nativeStats()
		addNative(&s, &native)
		if isCluster {
			s.Members = append(s.Members, n.memberStats(&native))
		}
	}
	if s.InUse > 0 { // else they are Conns that were closed, which go-redis does not say
		s.OldestHold = p.held.OldestHold(time.Now(), poolkeeper.KindPubSub)
	}
	slices.SortFunc(s.Members, func(a, b poolkeeper.MemberStats) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// nodesAndGone returns the nodes, and the totals of those that are gone, as of the same moment.
func (p *Pool) nodesAndGone() ([]*node, poolkeeper.Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nodes), p.goneTotals
}

// openAndIdle returns the connections of a client. go-redis reads the two numbers one after the
// other, so that there may seem to be more idle connections than open ones.
func openAndIdle(s *redis.PoolStats) (open, idle int) {
	return int(s.TotalConns), int(min(s.IdleConns, s.TotalConns))
}

// nativeStats returns what metrics do not count: the numbers of go-redis, the breaker and the evictor.
func (n *node) nativeStats() poolkeeper.Stats {
	native, cfg := n.client.PoolStats(), n.pool.config()
	open, idle := openAndIdle(native)
	s := poolkeeper.Stats{
		Max: cfg.MaxOpen, MinIdle: cfg.MinIdle, Open: open, Idle: idle, InUse: open - idle,
		Dialing: int(n.dialsNow.Load()), Waiting: int(native.PendingRequests) + n.permits.waiting(),
		Acquired:  n.acquired.total(native.Hits + native.Misses),
		WaitCount: uint64(native.WaitCount), WaitDuration: time.Duration(native.WaitDurationNs),
		SweepLate: n.evictor.Late(),
	}
	if d := n.down(); d != nil {
		s.DownSince = d.Since
	}
	return s
}

// addNative adds a node's nativeStats to total. DownSince is the earliest.
func addNative(total, native *poolkeeper.Stats) {
	sum.Add(total, native)
	if at := native.DownSince; !at.IsZero() && (total.DownSince.IsZero() || at.Before(total.DownSince)) {
		total.DownSince = at
	}
}

// addTotals adds the totals of a node that is gone to those of others.
func addTotals(gone, native *poolkeeper.Stats) {
	gone.Acquired += native.Acquired
	gone.WaitCount += native.WaitCount
	gone.WaitDuration += native.WaitDuration
}

// memberStats describes a node of a Cluster.
func (n *node) memberStats(native *poolkeeper.Stats) poolkeeper.MemberStats {
	m := poolkeeper.MemberStats{Name: n.addr(), Primary: n.role.Load() == rolePrimary, State: "ready", Stats: n.met.stats()}
	addNative(&m.Stats, native)
	m.Stats.Paused = n.isPaused()
	is, out := n.pool.isolator.standing(n.addr())
	m.Score, m.HasScore, m.Why, m.NextTrial = is.Score, is.HasScore, is.Why, is.NextTrial
	m.Isolated = is.State == isolation.Isolated || is.State == isolation.Trial
	m.InRotation = !out && (n.role.Load() != roleReplica || n.readsElsewhere())
	switch {
	case n.breaker.Down() != nil:
		m.State, m.InRotation = "down", false
	case m.Isolated:
		m.State = string(is.State)
	}
	return m
}
