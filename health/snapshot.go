package health

import (
	"slices"
	"strings"
)

// facts is what a snapshot is made from.
type facts struct {
	clock      clock
	phase      phase
	draining   bool
	latched    int64 // clock at which startup was first true; never: not yet
	holds      []*hold
	checks     []fact // by name
	heartbeats []*heart
}

// fact is the verdict on one check when the snapshot was published.
type fact struct {
	state   *checkState
	verdict *verdict
}

// phase is where the monitor is in its life. It only moves forward.
type phase uint8

const (
	created phase = iota
	running
	stopped
)

// beating is whether heartbeats count. Before Start no loop has to beat. While the service drains,
// its loops end one by one. Silence means nothing then, and a restart would lose the work in flight.
func (f *facts) beating() bool { return f.phase == running && !f.draining }

// snapshot is the facts compared with the clock: what has become stale, and what failed because of
// what. It is immutable. Making one needs no lock.
type snapshot struct {
	facts

	now    int64
	seen   []seen // one for each of facts.checks, by name
	expiry int64  // clock after which it may say more than is known
}

// seen is one check as it stands at the snapshot's clock.
type seen struct {
	state   *checkState
	verdict *verdict // the fact's, or one that says stale
	causes  []string // failed checks it depends on that have no failed dependency themselves
}

func (c *seen) name() string { return c.state.check.Name }

// newSnapshot compares every verdict and every heartbeat of f with clock now.
func newSnapshot(f facts, now int64) snapshot {
	s := snapshot{facts: f, now: now, seen: make([]seen, len(f.checks)), expiry: never}
	anyFailed := false
	for i, c := range s.checks {
		s.seen[i] = seen{state: c.state, verdict: c.verdict}
		if c.verdict.status.OK() {
			s.age(&s.seen[i])
		}
		anyFailed = anyFailed || s.seen[i].verdict.status == StatusFail
	}
	if anyFailed {
		s.findCauses()
	}
	if s.beating() {
		for _, h := range s.heartbeats {
			s.expireBy(h.expires())
		}
	}
	return s
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
	last, maxAge := c.state.lastResult.Load(), c.state.check.MaxAge
	expires := later(last, maxAge)
	s.expireBy(expires)
	if s.now > expires {
		c.verdict = &verdict{
			status:    StatusFail,
			since:     expires,
			reason:    ownReason(&staleError{last: s.clock.wall(last), maxAge: maxAge}),
			hungSince: c.verdict.hungSince,
		}
	}
}

// find returns the position of the named check in s.seen.
func (s *snapshot) find(name string) (at int, found bool) {
	return slices.BinarySearchFunc(s.checks, name, func(c fact, name string) int {
		return strings.Compare(c.state.check.Name, name)
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

// maxCauses bounds how many root causes are named for one check.
const maxCauses = 8

// findCauses fills in seen.causes: for every failed check the failed checks at the far ends of its
// dependencies. It is a depth-first walk, linear in checks and dependencies; a cycle is cut where
// it closes.
func (s *snapshot) findCauses() {
	f := causeFinder{s: s, marks: make([]mark, len(s.seen))}
	for i := range s.seen {
		f.visit(i)
	}
}

type causeFinder struct {
	s     *snapshot
	marks []mark // by position in s.seen
}

type mark uint8

const (
	unseen mark = iota
	entered
	left
)

func (f *causeFinder) visit(i int) {
	c := &f.s.seen[i]
	if f.marks[i] != unseen || c.verdict.status != StatusFail {
		return
	}
	f.marks[i] = entered
	for _, on := range c.state.check.DependsOn {
		j, found := f.s.find(on)
		if !found || f.s.seen[j].verdict.status != StatusFail {
			continue
		}
		f.visit(j)
		switch d := &f.s.seen[j]; {
		case f.marks[j] == entered: // a cycle closes here: a check in it is not the cause of itself
		case len(d.causes) == 0:
			c.causes = append(c.causes, on)
		default:
			c.causes = append(c.causes, d.causes...)
		}
	}
	slices.Sort(c.causes)
	c.causes = slices.Compact(c.causes)
	if len(c.causes) > maxCauses {
		c.causes = c.causes[:maxCauses]
	}
	f.marks[i] = left
}
