package redispool

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
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

	lastFailure atomic.Pointer[failedDial] // nil: no dial has failed
}

// failedDial is an attempt to open a connection that failed. It never changes.
type failedDial struct {
	at  time.Time
	err error
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
	if errors.Is(err, context.Canceled) { // one that was given up says nothing
		return
	}
	f := &failedDial{time.Now(), asFault(err)}
	for ; m != nil; m = m.all {
		m.lastFailure.Store(f)
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
	if f := m.lastFailure.Load(); f != nil {
		s.LastDialError, s.LastDialErrorTime = f.err, f.at
	}
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
// The last check tells whether a node is a primary, unless the user may not run ROLE.
func (p *Pool) Stats() poolkeeper.Stats {
	s := p.met.stats()
	s.Paused = p.permits.isPaused()
	if f := p.fleet.Load(); f != nil {
		s.Fleet = *f
		s.Fleet.Warnings = slices.Clone(f.Warnings)
	}
	isCluster := p.target.kind == kindCluster
	nodes, gone := p.nodesAndGone()
	if isCluster {
		s.Waiting = p.permits.waiting()
		s.Members = make([]poolkeeper.MemberStats, 0, len(nodes))
	}
	gone.addTo(&s)
	for _, n := range nodes {
		g := n.gauges()
		g.addTo(&s)
		if isCluster {
			s.Members = append(s.Members, n.memberStats(g))
		}
	}
	s.InUse = s.Open - s.Idle
	if s.InUse > 0 { // else they are Conns that were closed, which go-redis does not say
		s.OldestHold = p.held.OldestHold(time.Now(), poolkeeper.KindPubSub)
	}
	slices.SortFunc(s.Members, func(a, b poolkeeper.MemberStats) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// nodesAndGone returns the nodes, and the totals of those that are gone, as of the same moment.
func (p *Pool) nodesAndGone() ([]*node, gauges) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nodes), p.goneTotals
}

// openAndIdle returns the connections of a client. go-redis reads the two numbers one after the
// other, so that there may seem to be more idle connections than open ones.
func openAndIdle(s *redis.PoolStats) (open, idle int) {
	return int(s.TotalConns), int(min(s.IdleConns, s.TotalConns))
}

// gauges is a node at one moment: what is not in metrics.
type gauges struct {
	max, minIdle, open, idle, dialing, waiting int

	acquired, waitCount uint64
	waitDuration        time.Duration
	downSince           time.Time
	late                time.Duration
}

func (n *node) gauges() gauges {
	native, cfg := n.client.PoolStats(), n.pool.config()
	open, idle := openAndIdle(native)
	g := gauges{
		max: cfg.MaxOpen, minIdle: cfg.MinIdle, open: open, idle: idle,
		dialing: int(n.dialsNow.Load()), waiting: int(native.PendingRequests) + n.permits.waiting(),
		acquired:  n.acquired.total(native.Hits + native.Misses),
		waitCount: uint64(native.WaitCount), waitDuration: time.Duration(native.WaitDurationNs),
		late: n.evictor.Late(),
	}
	if d := n.down(); d != nil {
		g.downSince = d.Since
	}
	return g
}

// addTo adds g to the sums of all nodes.
func (g *gauges) addTo(s *poolkeeper.Stats) {
	s.Max += g.max
	s.MinIdle += g.minIdle
	s.Open += g.open
	s.Idle += g.idle
	s.Dialing += g.dialing
	s.Waiting += g.waiting
	s.Acquired += g.acquired
	s.WaitCount += g.waitCount
	s.WaitDuration += g.waitDuration
	s.SweepLate = max(s.SweepLate, g.late)
	if !g.downSince.IsZero() && (s.DownSince.IsZero() || g.downSince.Before(s.DownSince)) {
		s.DownSince = g.downSince
	}
}

// memberStats describes a node of a Cluster.
func (n *node) memberStats(g gauges) poolkeeper.MemberStats {
	m := poolkeeper.MemberStats{Name: n.addr(), Primary: n.role.Load() == rolePrimary, State: "ready", Stats: n.met.stats()}
	g.addTo(&m.Stats)
	m.Stats.InUse = m.Stats.Open - m.Stats.Idle
	m.Stats.Paused = n.isPaused()
	if n.breaker.Down() != nil {
		m.State = "down"
	}
	m.InRotation = m.State == "ready" && (n.role.Load() != roleReplica || n.readsElsewhere())
	return m
}

// keep adds the totals of a node that is gone.
func (g *gauges) keep(gone gauges) {
	g.acquired += gone.acquired
	g.waitCount += gone.waitCount
	g.waitDuration += gone.waitDuration
}
