package health

import (
	"math"
	"slices"
	"strings"
	"time"
)

// snapshot is what is known at one moment, ready to be served. It is immutable. Making one needs
// facts and a clock and no lock. So any request that finds an expired page can make a new one.
type snapshot struct {
	facts

	now    int64
	seen   []seen       // one for each of facts.checks, by name
	groups []*groupPage // live, ready, startup, then by name
	expiry int64        // clock after which it may say more than is known
}

// facts is what a snapshot is made from.
type facts struct {
	wall       func(int64) time.Time
	phase      phase
	draining   bool
	latched    int64 // clock at which startup was first true; never: not yet
	holds      []*hold
	checks     []fact
	heartbeats []*Heartbeat
}

// fact is the verdict on one check when the snapshot was published.
type fact struct {
	reg     *Registration
	verdict *verdict
}

// never is a clock that does not come.
const never = math.MaxInt64

// seen is one check as it stands at the snapshot's clock.
type seen struct {
	reg     *Registration
	verdict *verdict // the fact's, or one that says stale
	causes  []string // failed checks it depends on that have no failed dependency themselves
}

func (c *seen) name() string { return c.reg.check.Name }

// Positions in snapshot.groups.
const (
	liveAt = iota
	readyAt
	startupAt
	customAt
)

// everyGroup names the groups every monitor has, by position.
func everyGroup() []string {
	return []string{liveAt: GroupLive, readyAt: GroupReady, startupAt: GroupStartup}
}

// newSnapshot evaluates f at clock now. prev, nil at first, lends the times since which groups have
// their status.
func newSnapshot(f facts, now int64, prev *snapshot) *snapshot {
	s := &snapshot{facts: f, now: now, seen: make([]seen, len(f.checks)), expiry: never}
	s.see()
	s.makeGroups()
	for _, g := range s.groups {
		g.status = g.judge(nil)
		g.since = now
		if prev != nil {
			if p := prev.group(g.name); p != nil && p.status == g.status {
				g.since = p.since
			}
		}
	}
	if f.latched == never && s.groups[startupAt].status.OK() {
		s.latched = now
		s.groups[startupAt].status = StatusPass
	}
	return s
}

// see compares every verdict and every heartbeat with the clock, and finds out what failed because
// of what.
func (s *snapshot) see() {
	anyFailed := false
	for i, c := range s.checks {
		s.seen[i] = seen{reg: c.reg, verdict: c.verdict}
		if c.verdict.status.OK() {
			s.age(&s.seen[i])
		}
		anyFailed = anyFailed || s.seen[i].verdict.status == StatusFail
	}
	if anyFailed {
		findCauses(s)
	}
	if s.beating() {
		for _, h := range s.heartbeats {
			s.expireBy(h.expires())
		}
	}
}

// expireBy lowers the expiry of s to clock at, unless that has passed: what is stale cannot get
// staler.
func (s *snapshot) expireBy(at int64) {
	if at >= s.now {
		s.expiry = min(s.expiry, at)
	}
}

// age makes the verdict on a healthy check stale if its last result is too old.
func (s *snapshot) age(c *seen) {
	last, maxAge := c.reg.lastResult.Load(), c.reg.check.MaxAge
	expires := later(last, maxAge)
	s.expireBy(expires)
	if s.now > expires {
		c.verdict = &verdict{
			status:    StatusFail,
			since:     expires,
			reason:    ownReason(&staleError{last: s.wall(last), maxAge: maxAge}),
			hungSince: c.verdict.hungSince,
		}
	}
}

func (s *snapshot) makeGroups() {
	for _, name := range everyGroup() {
		s.groups = append(s.groups, &groupPage{name: name, snap: s})
	}
	for i := range s.seen {
		for _, name := range s.seen[i].reg.check.Groups {
			g := s.group(name)
			if g == nil {
				g = &groupPage{name: name, snap: s}
				at, _ := slices.BinarySearchFunc(s.groups[customAt:], name, byGroupName)
				s.groups = slices.Insert(s.groups, customAt+at, g)
			}
			g.members = append(g.members, &s.seen[i])
		}
	}
}

func byGroupName(g *groupPage, name string) int { return strings.Compare(g.name, name) }

// group returns the named group, nil if there is none.
func (s *snapshot) group(name string) *groupPage {
	for _, g := range s.groups[:customAt] {
		if g.name == name {
			return g
		}
	}
	at, found := slices.BinarySearchFunc(s.groups[customAt:], name, byGroupName)
	if !found {
		return nil
	}
	return s.groups[customAt+at]
}

// find returns the position of the named check in s.seen.
func (s *snapshot) find(name string) (at int, found bool) {
	return slices.BinarySearchFunc(s.checks, name, func(c fact, name string) int {
		return strings.Compare(c.reg.check.Name, name)
	})
}

// check returns the named check, nil if there is none.
func (s *snapshot) check(name string) *seen {
	at, found := s.find(name)
	if !found {
		return nil
	}
	return &s.seen[at]
}
