package eviction

import (
	"slices"
	"time"
)

const (
	firstRetry = time.Second      // after the first failure to open a connection
	lastRetry  = 30 * time.Second // the delay at which doubling ends
)

// planner is the evictor without clock, goroutine or I/O: what it has seen, and what it makes of
// it. Its methods are called in rounds: plan, then swept and filled as far as the plan asked for
// them, then next.
type planner struct {
	policy   Policy    // with defaults
	since    time.Time // demand is known from here on
	demand   window    // most in use at once, per tick
	sweepDue time.Time // when a connection comes due for its age or silence; zero: none will
	fillFrom time.Time // no Fill before this: the last one failed
	failures int       // of Fill, in a row
}

// plan is what one round is to do.
type plan struct {
	sweep bool
	order Sweep
	fill  int // idle connections wanted; 0: do not fill
}

func newPlanner(p Policy, now time.Time) *planner {
	p = p.withDefaults()
	c := &planner{policy: p, since: now}
	if _, ok := p.soonest(); ok {
		c.sweepDue = now // the pool may have been open for long
	}
	return c
}

// setPolicy changes the policy at now. What is remembered of demand stays, and nothing more is
// known of it.
func (c *planner) setPolicy(p Policy, now time.Time) {
	c.since = later(c.since, now.Add(-c.memory()))
	c.policy = p.withDefaults()
	c.sweepDue = time.Time{}
	if _, ok := p.soonest(); ok {
		c.sweepDue = now
	}
	c.fillFrom, c.failures = time.Time{}, 0
}

// plan decides what to do at now, with open connections of which at most peak were in use at once
// since the last round. INV-7: what it calls surplus was idle at every moment of the last
// MaxIdleTime.
func (c *planner) plan(now time.Time, open, peak int) plan {
	c.demand.add(now, peak)
	c.demand.forget(now.Add(-c.memory()))
	p := c.policy
	surplus := 0
	if p.MaxIdleTime > 0 && now.Sub(c.since) >= p.MaxIdleTime {
		surplus = max(0, open-c.demand.max()-p.MinIdle)
	}
	due := open > 0 && !c.sweepDue.IsZero() && !now.Before(c.sweepDue)
	out := plan{sweep: surplus > 0 || due}
	if out.sweep {
		out.order = Sweep{
			Surplus: surplus, Batch: p.Batch, MinIdle: p.MinIdle, Now: now,
			KeepAlive: p.KeepAlive, MaxLifetime: p.MaxLifetime, LifetimeJitter: p.LifetimeJitter,
		}
	}
	if !now.Before(c.fillFrom) {
		out.fill = p.MinIdle
	}
	return out
}

// memory is how far back demand is remembered.
func (c *planner) memory() time.Duration {
	if c.policy.MaxIdleTime > 0 {
		return c.policy.MaxIdleTime
	}
	return c.policy.Interval
}

// swept takes in when a connection next comes due, by what a sweep decided at decided has seen.
func (c *planner) swept(decided, next time.Time) {
	shortest, ok := c.policy.soonest()
	if !ok {
		c.sweepDue = time.Time{}
		return
	}
	c.sweepDue = decided.Add(shortest) // for connections opened since
	if !next.IsZero() && next.Before(c.sweepDue) {
		c.sweepDue = next
	}
}

// filled takes in how a Fill that ended at now went. draw is a random number in [0, 1).
func (c *planner) filled(now time.Time, failed bool, draw float64) {
	if !failed {
		c.failures, c.fillFrom = 0, time.Time{}
		return
	}
	delay := lastRetry
	if c.failures < 5 { // 1 s << 5 is past lastRetry
		delay = min(firstRetry<<c.failures, lastRetry)
	}
	c.failures++
	c.fillFrom = now.Add(delay*3/4 + time.Duration(draw*float64(delay)/4))
}

// next returns when the next round is due, with open connections at now. The zero time means that
// only new use of the pool can give the evictor anything to do. attentive says that the round is to
// sample demand, so that new use need not bring it forward.
func (c *planner) next(now time.Time, open int) (at time.Time, attentive bool) {
	p := c.policy
	tick := now.Add(p.Interval) // no round comes sooner
	due := make([]time.Time, 0, 3)
	if p.MaxIdleTime > 0 && open > p.MinIdle {
		due, attentive = append(due, tick), true
	}
	if p.MinIdle > 0 && (c.demand.max() > 0 || open < p.MinIdle) { // idle ones may be missing
		due, attentive = append(due, later(tick, c.fillFrom)), true
	}
	if open > 0 && !c.sweepDue.IsZero() {
		due = append(due, later(tick, c.sweepDue))
	}
	if len(due) == 0 {
		return time.Time{}, false
	}
	return slices.MinFunc(due, time.Time.Compare), attentive
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
