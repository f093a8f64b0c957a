package poolkeeper

import "time"

// Stats is one moment of one pool. Gauges are as of the call; counters are totals since Start and
// only grow.
type Stats struct {
	Max     int // most connections the pool may open; 0: no limit is known
	MinIdle int // idle connections the pool keeps ready; 0: none, or not known
	Open    int // connections open now, in use and idle
	InUse   int // connections held by callers now
	Idle    int // connections no caller holds now
	Dialing int // connections being opened now, where that can be known
	Waiting int // callers queued for a connection now, where that can be known

	OldestHold time.Duration // age of the longest hold now, but for subscriptions; 0: nothing is held, or not known
	Paused     bool          // Pause was called and Resume was not
	DownSince  time.Time     // since when callers fail at once, because the server is down; zero: it is not
	Generation uint64        // how often connections were replaced all at once: by Reset, a failover, a Reload, a Pause
	SweepLate  time.Duration // how long eviction is overdue; 0: it is on time, or off

	WaitCount    uint64        // acquisitions that had to wait
	WaitDuration time.Duration // time spent in those waits, in all

	Dials           uint64 // connections opened
	DialErrors      uint64 // attempts to open one that failed
	Acquired        uint64 // acquisitions that got a connection, where that can be known
	Reused          uint64 // acquisitions that got a connection used before; of HTTP clients only
	AcquireTimeouts uint64 // acquisitions that gave up
	Refused         uint64 // acquisitions refused at once: the server is down, or MaxWaiting callers wait already
	Leaks           uint64 // connections held longer than LeakThreshold, each counted once
	Reclaimed       uint64 // connections taken away from their holders
	Unread          uint64 // HTTP responses closed before their end, which costs a connection each

	// LastDialError is the error of the last failed attempt to open a connection, and
	// LastDialErrorTime its time. Later successes do not clear it. Nil: no attempt has failed.
	LastDialError     error
	LastDialErrorTime time.Time

	// Evicted counts connections the pool closed, by reason. It has all of the Evicted constants.
	Evicted map[string]uint64

	Wait Histogram // seconds from asking for a connection to having it
	Use  Histogram // seconds a connection was held
	Dial Histogram // seconds to open a connection

	// Fleet compares the demand of all instances with the server's limit, as last asked.
	Fleet FleetStats
	// Members are the servers of a replicated pool, or the nodes of a Redis Cluster, by name. Nil
	// for a pool of one server. The other fields are their sums.
	Members []MemberStats
}

// FleetStats compares the demand of all instances of a service with the limit of their server.
type FleetStats struct {
	Asked    time.Time // when the server last answered; zero: never
	Demand   int       // connections that all instances may open during a rolling update
	Limit    int       // connections that the server grants to them; 0: not known
	OnServer int       // connections on the server when it was asked, of all its clients
	Warnings []string  // one sentence for each limit that does not fit; empty: all fit
}

// MemberStats is one server of a replicated pool, or one node of a Redis Cluster.
type MemberStats struct {
	Name       string        // as in the configuration; the address of a node
	Primary    bool          // it takes writes
	State      string        // such as "ready", "lagging" or "down"
	InRotation bool          // it serves callers
	Lag        time.Duration // how far a replica is behind its primary
	HasLag     bool          // Lag is known
	Score      int           // how well it serves, 0 to 100: see Isolation
	HasScore   bool          // Score is known
	Isolated   bool          // it serves worse than the others: it gets no traffic, or that of a trial
	Why        string        // why it is Isolated; else empty
	NextTrial  time.Time     // when its next trial begins; zero: none is due
	Stats      Stats
}

// ServerStats is one moment of a server that answers requests. Gauges are as of the call; counters
// are totals since Start and only grow.
type ServerStats struct {
	InFlight    int // requests being answered now, Streams included
	Streams     int // requests that continue until they are ended, such as server-sent events
	Connections int // connections open now, Hijacked included
	Hijacked    int // connections that a handler has taken over, such as WebSockets

	Requests uint64 // requests that a handler has begun to answer
	Refused  uint64 // requests refused because the server drains
}

// Reasons for which a pool closes a connection: the keys of [Stats.Evicted].
const (
	EvictedIdle     = "idle"     // not needed for MaxIdleTime
	EvictedLifetime = "lifetime" // older than MaxLifetime
	EvictedDead     = "dead"     // did not answer, or its driver gave it up
	EvictedFailover = "failover" // dialled before a failover
	EvictedReload   = "reload"   // dialled before a change of configuration or credentials
	EvictedClosed   = "closed"   // the pool was stopped
)

// Histogram is a distribution of durations in seconds. A zero Histogram is one that is not
// measured.
type Histogram struct {
	Count   uint64   // observations
	Sum     float64  // seconds, in all
	Buckets []Bucket // by rising UpperBound; observations above the last bound are in Count only
}

// Bucket is one step of a [Histogram].
type Bucket struct {
	UpperBound float64 // seconds, inclusive
	Count      uint64  // observations at or below UpperBound: cumulative, as in Prometheus
}

// StreamStats is one moment of a hub of streams: package streams has one. Gauges are as of the call;
// counters are totals since New and only grow.
type StreamStats struct {
	WebSocket int            // WebSockets open now
	SSE       int            // SSE streams open now
	Buffered  int            // events that wait in the buffers of all streams
	Topics    map[string]int // subscribers of each topic that is known

	Opened   uint64 // streams that were opened
	Sent     uint64 // events written to connections: one of Broadcast counts for each stream
	Dropped  uint64 // events that streams did not get: buffers were full, or connections broke with some in them
	Replayed uint64 // events delivered because of a Last-Event-ID

	// Ended counts streams by the reason for which they ended: done, failed, panic, peer, dead,
	// slow, timeout, age, drain, cut.
	Ended map[string]uint64
	// Refused counts requests by reason: draining, max, key, unauthorized, handshake, panic.
	Refused map[string]uint64
}
