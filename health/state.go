package health

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// checkState is what the monitor keeps of one check: its verdict, and when it runs next.
type checkState struct {
	check Check   // with defaults; never changes
	phase float64 // 0 to 1: where in its interval the check runs

	// Read and written by live traffic and by handlers, without a lock.
	traffic    atomic.Bool  // a success was observed since the last run
	hastened   atomic.Bool  // a run was asked for and has not begun
	failing    atomic.Bool  // the status is fail: a success is news and an error is not
	lastResult atomic.Int64 // clock of the last result; noResult before the first

	// Guarded by Monitor.mu.
	removed     bool
	streak      streak
	verdict     *verdict // immutable, replaced on change
	told        told     // what listeners were last told
	failedFirst int64    // clock of the first of the runs that have failed in a row; of use while there are any
	run         *run     // the probe running now, nil if none
	slow        bool     // the last run timed out: it queues apart
	waiting     bool     // it is in a lane's queue
	backoff     int      // runs that failed since the check was decided as failed
	standIns    int      // runs in a row that live traffic stood in for
	slot        int64    // the number of the interval of the last planned run
	started     int64    // clock of the start of the last run
	trafficFrom int64    // clock since which traffic is counted
	next        int64    // clock of what the scheduler has to do next
	index       int      // in the scheduler's heap; -1: not in it
	count       runCount // of its runs
}

// runCount counts the runs of a check. Live traffic that stands in for a run is none.
type runCount struct {
	begun, failed uint64
	took          int64 // nanoseconds of the last run that has returned or timed out
}

// ended counts a run that has returned or timed out.
func (n *runCount) ended(took int64, o outcome) {
	n.took = took
	if o == failed {
		n.failed++
	}
}

// noResult is lastResult before the first result.
const noResult = math.MinInt64

// told is what listeners know of a check or group: its status, and the clock since which it has it.
type told struct {
	status Status
	since  int64
}

// run is one goroutine in a probe.
type run struct {
	name    string
	lane    int
	started int64
	cancel  context.CancelFunc
	removed int64         // clock at which its check was removed; guarded by Monitor.mu
	overdue bool          // its verdict was given without it; what it returns is dropped. Guarded by Monitor.mu.
	done    chan struct{} // closed when the goroutine is out of the probe
}

// heart is a loop of this process that has to beat.
type heart struct {
	name   string
	maxAge time.Duration
	last   atomic.Int64 // clock of the last beat
}

// expires is the clock up to which the last beat counts.
func (h *heart) expires() int64 { return later(h.last.Load(), h.maxAge) }

func byHeart(h *heart, name string) int { return strings.Compare(h.name, name) }

// hold is one caller of Monitor.Hold that has not released.
type hold struct {
	reason string
	since  int64
}

func newCheckState(c Check, phase float64, now int64) *checkState {
	s := &checkState{check: c, phase: phase, verdict: &verdict{since: now}, slot: -1, index: -1}
	s.lastResult.Store(noResult)
	return s
}

// isStale reports whether the last result is older than MaxAge.
func (c *checkState) isStale(now int64) bool {
	return now > later(c.lastResult.Load(), c.check.MaxAge)
}

// record takes one result that was true at clock at, and reports whether the verdict changed.
func (c *checkState) record(res result, at, now int64) (changed bool) {
	wasStale := c.verdict.status.OK() && c.isStale(now)
	c.streak = c.streak.next(res.outcome, c.check.FailureThreshold, c.check.SuccessThreshold)
	c.lastResult.Store(max(at, c.lastResult.Load()))
	c.failing.Store(c.streak.status == StatusFail)
	if c.streak.failures == 1 {
		c.failedFirst = at
	}
	if res.outcome == failed && c.streak.status == StatusFail {
		c.backoff++
	} else {
		c.backoff = 0
	}
	v := *c.verdict
	if c.streak.status != v.status || wasStale {
		v.status, v.since = c.streak.status, now
	}
	if c.streak.status == statusOf(res.outcome) { // else the result did not decide, and the old reason stands
		v.reason = res.reason
	}
	v.hungSince = res.hungSince
	if v.same(c.verdict) {
		return false
	}
	c.verdict = &v
	return true
}

// returned takes note that a run came back too late to count, and reports whether the verdict
// changed and whether the check should run again soon.
func (c *checkState) returned() (changed, soon bool) {
	if c.verdict.hungSince == 0 {
		return false, c.streak.undecided()
	}
	v := *c.verdict
	v.hungSince = 0
	c.verdict = &v
	return true, true
}

// maxStandIns is how many runs in a row live traffic may stand in for.
const maxStandIns = 4

// standIn is whether live traffic has answered for the run that is due.
func (c *checkState) standIn(now int64) bool {
	if !c.check.TrafficCounts || c.streak.status != StatusPass || c.streak.undecided() || c.hastened.Load() ||
		c.standIns >= maxStandIns || !c.traffic.Load() {
		return false
	}
	// The success may be as old as the last look; the verdict must not expire before the next one.
	if later(c.trafficFrom, c.check.MaxAge) <= later(now, c.check.minAge()) {
		return false
	}
	c.traffic.Store(false)
	c.standIns++
	return true
}

// soonest is the clock before which no further run may begin.
func (c *checkState) soonest(now int64) int64 {
	return max(now, later(c.started, c.check.RetryInterval))
}
