package health

import "time"

// Pages are made in three places, all from the same facts:
//
//	publishLocked   something changed: a verdict, a hold, draining, a check added or removed
//	expire          the published page reached its expiry: a timer of its own, which takes no lock, so that a verdict
//	                ages even if the scheduler is dead
//	fresh           a request that is not served from prepared bytes looks at the clock itself

// publishLocked makes the page that handlers read, and tells listeners what changed.
func (m *Monitor) publishLocked(now int64) {
	m.dirty, m.publishAt = false, now+int64(len(m.checks))*int64(publishPace)
	s := newSnapshot(m.factsLocked(), now, m.page.Load())
	m.latched = s.latched
	m.sched.expiry = s.expiry
	m.page.Store(s)
	m.guard(s, now)
	m.tellLocked(s)
}

// publishPace is the least time between two publications, for each check there is: a page costs as
// much as there are checks, and when a thousand of them fail in the same second it need not be made
// a thousand times. What a caller asked for (draining, a hold, a new check) is published at once.
const publishPace = time.Microsecond

// publishSoonLocked publishes what has changed if it is time, and leaves it to the scheduler's
// timer if not.
func (m *Monitor) publishSoonLocked(now int64) {
	if m.dirty && now >= m.publishAt {
		m.publishLocked(now)
	}
}

func (m *Monitor) factsLocked() facts {
	f := facts{
		wall: m.wall, phase: m.phase, draining: m.draining, latched: m.latched,
		holds: m.holds, heartbeats: m.heartbeats, checks: make([]fact, len(m.checks)),
	}
	for i, r := range m.checks {
		f.checks[i] = fact{r, r.verdict}
	}
	return f
}

// guard has expire called when s expires. Before Start and after Stop no group can pass, so there
// is nothing to guard.
func (m *Monitor) guard(s *snapshot, now int64) {
	if s.phase == running && s.expiry != never {
		m.expiry.Reset(time.Duration(max(0, s.expiry+1-now)))
	}
}

// expire replaces a page that has reached its expiry. It runs in the goroutine of its timer. It
// takes no lock and calls no code of the service, so nothing can keep it from running.
func (m *Monitor) expire() {
	for {
		s := m.page.Load()
		now := m.now()
		if now > s.expiry {
			s = m.renew(s, now)
		}
		m.guard(s, now)
		if m.page.Load() == s {
			return // else another goroutine published meanwhile, and the timer must have that page's expiry
		}
	}
}

// renew makes the page anew from what is known and the clock. If the scheduler has published
// meanwhile, its page stays.
func (m *Monitor) renew(s *snapshot, now int64) *snapshot {
	renewed := newSnapshot(s.facts, now, s)
	if !m.page.CompareAndSwap(s, renewed) {
		return m.page.Load()
	}
	return renewed
}

// fresh is the page of a group, compared with the clock; nil if there is no such group.
func (m *Monitor) fresh(group string) *groupPage {
	s, now := m.page.Load(), m.now()
	if now > s.expiry {
		s = m.renew(s, now)
	}
	if live := s.groups[liveAt]; group == GroupLive && live.status == StatusFail {
		// A heart that was silent may have begun to beat again, and no event says so. So judge at
		// every request, but without the checks, which do not concern liveness.
		f := s.facts
		f.checks = nil
		s = newSnapshot(f, now, s)
	}
	return s.group(group)
}

// tellLocked offers to every listener what changed since they were last told.
func (m *Monitor) tellLocked(s *snapshot) {
	for i := range s.seen {
		c := &s.seen[i]
		v := c.verdict
		was := c.reg.told
		if was.status == v.status {
			continue
		}
		c.reg.told = told{v.status, v.since}
		if v.status == StatusFail && c.reg.state.failures > 0 {
			c.reg.told.since = c.reg.failedFirst
		}
		m.offerLocked(Transition{
			Check: c.name(), Impact: c.reg.check.Impact, From: was.status, To: v.status,
			At: m.wall(v.since), Since: m.wall(c.reg.told.since), Lasted: time.Duration(v.since - was.since), Failures: c.reg.state.failures,
			Err: v.err, Fault: v.fault, Reason: v.text, CausedBy: c.causes,
		})
	}
	for _, g := range s.groups {
		was, ok := m.groupTold[g.name]
		if ok && was.status == g.status {
			continue
		}
		m.groupTold[g.name] = told{g.status, g.since}
		m.offerLocked(Transition{
			Group: g.name, From: was.status, To: g.status, At: m.wall(g.since), Since: m.wall(g.since),
			Lasted: time.Duration(g.since - was.since), Reason: g.reason(nil),
		})
	}
	m.forgetGroupsLocked(s)
}

// forgetGroupsLocked drops what was told about groups whose last check was removed.
func (m *Monitor) forgetGroupsLocked(s *snapshot) {
	if len(m.groupTold) == len(s.groups) {
		return
	}
	for name := range m.groupTold {
		if s.group(name) == nil {
			delete(m.groupTold, name)
			m.forgetLocked(subject{group: name})
		}
	}
}

// told is what listeners know of a check or group: its status, and the clock since which it has it.
type told struct {
	status Status
	since  int64
}

// forgetLocked drops what listeners have not yet taken about a check or group that is gone.
func (m *Monitor) forgetLocked(about subject) {
	for box := range m.listeners {
		box.forget(about)
	}
}

func (m *Monitor) offerLocked(t Transition) {
	for box := range m.listeners {
		box.offer(t)
	}
}
