package poolkeeper

import "time"

// Stats is one moment of one pool. Gauges are as of the call; counters are totals since Start and
// only grow.
type Stats struct {
	Max     int // most connections the pool may open; 0: no limit is known
	Open    int // connections open now, in use and idle
	InUse   int // connections held by callers now
	Idle    int // connections no caller holds now
	Waiting int // callers queued for a connection now, where that can be known

	WaitCount    uint64        // acquisitions that had to wait
	WaitDuration time.Duration // time spent in those waits, in all

	Dials           uint64 // connections opened
	DialErrors      uint64 // attempts to open one that failed
	AcquireTimeouts uint64 // acquisitions that gave up
	Leaks           uint64 // connections held longer than LeakThreshold, each counted once

	// Evicted counts connections the pool closed, by reason: one of the Evicted constants.
	Evicted map[string]uint64

	Wait Histogram // seconds from asking for a connection to having it
	Use  Histogram // seconds a connection was held
	Dial Histogram // seconds to open a connection
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
