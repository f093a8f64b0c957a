package health

import (
	"math"
	"slices"
	"strings"
	"time"
)

// snapshot is what is known at one moment, ready to be served. It is immutable, but for pages that are rendered at
// their first use. Making one is a pure function of facts and a clock, so a handler can do it too.
type snapshot struct {
	facts
	now    int64
	seen   []seen       // by name, one for each of facts.checks
	groups []*groupPage // live, ready, startup, then by name
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

// never is a clock that does not come.
const never = math.MaxInt64

type fact struct {
	reg     *Registration
	verdict *verdict
}

// seen is one check as it stands at the snapshot's clock.
type seen struct {
	reg     *Registration
	verdict *verdict // the fact's, or one that says stale
	causes  []string // names of failed checks it depends on that have no failed dependency themselves
}

// Positions in snapshot.groups.
const (
	liveAt = iota
	readyAt
	startupAt
	customAt
)

func (s *snapshot) live() *groupPage    { return s.groups[liveAt] }
func (s *snapshot) ready() *groupPage   { return s.groups[readyAt] }
func (s *snapshot) startup() *groupPage { return s.groups[startupAt] }

// group returns the named group, nil if there is none.
func (s *snapshot) group(name string) *groupPage {
	for _, g := range s.groups[:customAt] {
		if g.name == name {
			return g
		}
	}
	at, found := slices.BinarySearchFunc(s.groups[customAt:], name, func(g *groupPage, name string) int {
		return strings.Compare(g.name, name)
	})
	if !found {
		return nil
	}
	return s.groups[customAt+at]
}

// check returns the named check, nil if there is none.
func (s *snapshot) check(name string) *seen {
	at, found := slices.BinarySearchFunc(s.seen, name, func(c seen, name string) int {
		return strings.Compare(c.reg.check.Name, name)
	})
	if !found {
		return nil
	}
	return &s.seen[at]
}

// newSnapshot evaluates f at clock now. prev, nil at first, lends the times since which groups have their status.
func newSnapshot(f facts, now int64, prev *snapshot) *snapshot {
	s := &snapshot{facts: f, now: now, seen: make([]seen, len(f.checks))}
	failed := false
	for i, c := range f.checks {
		v := c.verdict.at(now, c.reg.lastResult.Load(), c.reg.check.MaxAge, f.wall)
		s.seen[i] = seen{reg: c.reg, verdict: v}
		failed = failed || v.status == StatusFail
	}
	if failed {
		findCauses(s)
	}
	s.groups = []*groupPage{{name: GroupLive}, {name: GroupReady}, {name: GroupStartup}}
	s.addCustomGroups()
	for i := range s.seen {
		for _, name := range s.seen[i].reg.check.Groups {
			g := s.group(name)
			g.members = append(g.members, &s.seen[i])
		}
	}
	for i, g := range s.groups {
		g.snap = s
		if i == liveAt {
			g.judgeLive(now)
		} else {
			g.judge(nil)
		}
		g.since = now
		if prev != nil {
			if p := prev.group(g.name); p != nil && p.status == g.status {
				g.since = p.since
			}
		}
	}
	return s
}

func (s *snapshot) addCustomGroups() {
	for i := range s.seen {
		for _, name := range s.seen[i].reg.check.Groups {
			if s.group(name) == nil {
				at, _ := slices.BinarySearchFunc(s.groups[customAt:], name, func(g *groupPage, name string) int {
					return strings.Compare(g.name, name)
				})
				s.groups = slices.Insert(s.groups, customAt+at, &groupPage{name: name})
			}
		}
	}
}

// expiry is the clock after which s may say more than is known.
func (s *snapshot) expiry() int64 {
	e := int64(never)
	for _, g := range s.groups {
		if g.validUntil > s.now { // a page that fails because of a missed beat is judged at every request
			e = min(e, g.validUntil)
		}
	}
	return e
}

// publishLocked makes the page that handlers read, and tells listeners what changed.
func (m *Monitor) publishLocked(now int64) {
	prev := m.page.Load()
	f := facts{
		wall: m.wall, phase: m.phase, draining: m.draining, latched: m.latched,
		holds: m.holds, heartbeats: m.heartbeats, checks: make([]fact, len(m.checks)),
	}
	for i, r := range m.checks {
		f.checks[i] = fact{r, r.verdict}
	}
	s := newSnapshot(f, now, prev)
	if m.latched == never && s.startup().status.OK() {
		m.latched, s.latched = now, now
	}
	m.page.Store(s)
	m.sched.expiry = s.expiry()
	m.tellLocked(s)
}

// current returns a snapshot that holds at clock now, for a group whose page may have expired.
func (m *Monitor) refresh(s *snapshot, now int64) *snapshot {
	fresh := newSnapshot(s.facts, now, s)
	m.page.CompareAndSwap(s, fresh) // if it fails the scheduler has published something newer
	return fresh
}

// tellLocked offers to every listener what changed since they were last told.
func (m *Monitor) tellLocked(s *snapshot) {
	for i := range s.seen {
		c := &s.seen[i]
		if c.reg.told == c.verdict.status {
			continue
		}
		t := Transition{
			Check: c.reg.check.Name, From: c.reg.told, To: c.verdict.status, At: m.wall(c.verdict.since),
			Err: c.verdict.err, Fault: c.verdict.fault, Reason: c.verdict.text, CausedBy: c.causes,
		}
		c.reg.told = c.verdict.status
		m.offerLocked(t)
	}
	for _, g := range s.groups {
		if told := m.groupTold[g.name]; told != g.status {
			m.groupTold[g.name] = g.status
			m.offerLocked(Transition{Group: g.name, From: told, To: g.status, At: m.wall(g.since), Reason: g.reason()})
		}
	}
}

func (m *Monitor) offerLocked(t Transition) {
	for box := range m.listeners {
		box.offer(t)
	}
}
