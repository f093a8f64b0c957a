package health

import (
	"slices"
	"time"
)

// Report is one moment of a [Monitor]. It is a value of its own: nothing in it changes after it was
// returned.
type Report struct {
	// At is when the report was made.
	At time.Time
	// Started is whether Start was called and Stop was not.
	Started bool
	// Draining is whether SetDraining was called.
	Draining bool
	// Holds are the reasons for which readiness is held back, oldest first.
	Holds []Hold
	// Groups are live, ready, startup and then the groups of your own, by name.
	Groups []GroupReport
	// Checks by name.
	Checks []CheckReport
	// Heartbeats by name.
	Heartbeats []HeartbeatReport
}

// Hold is one reason for which readiness is held back, from [Monitor.Hold].
type Hold struct {
	Reason string
	Since  time.Time
}

// GroupReport is the verdict on one group.
type GroupReport struct {
	Name   string
	Status Status
	// Since is when Status last changed.
	Since time.Time
	// Reason is one line that says why Status is not pass: the root cause first. Empty when it is.
	// It holds error text, without secrets: for details only.
	Reason string
}

// CheckReport is the verdict on one check.
type CheckReport struct {
	Name   string
	Impact Impact
	Groups []string
	Status Status
	// Since is when Status last changed.
	Since time.Time
	// LastResult is when the last result came in; zero before the first.
	LastResult time.Time
	// Err is the last failure or reservation that Status rests on; nil when it is pass or unknown.
	// Its text holds no secret; errors.Is and errors.As reach the probe's own error, whose text
	// may.
	Err error
	// Fault is Err classified.
	Fault Fault
	// Failures in a row up to now.
	Failures int
	// Runs is how often the probe was called, and FailedRuns how often it failed, timed out or
	// panicked. Live traffic that stands in for a run counts in neither.
	Runs, FailedRuns uint64
	// Duration is how long the last finished run took. A run that timed out is finished.
	Duration time.Duration
	// MaxAge is the age at which the last result is stale.
	MaxAge time.Duration
	// HungSince is when the probe that does not return was started; zero when none hangs.
	HungSince time.Time
	// CausedBy names the checks this one depends on, directly or not, that failed and whose own
	// dependencies did not.
	CausedBy []string
}

// HeartbeatReport is the verdict on one heartbeat.
type HeartbeatReport struct {
	Name     string
	Status   Status
	LastBeat time.Time
	MaxAge   time.Duration
}

// Group returns the verdict on the named group, and false if there is none.
func (r *Report) Group(name string) (GroupReport, bool) {
	for _, g := range r.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return GroupReport{}, false
}

// Check returns the verdict on the named check, and false if there is none.
func (r *Report) Check(name string) (CheckReport, bool) {
	for _, c := range r.Checks {
		if c.Name == name {
			return c, true
		}
	}
	return CheckReport{}, false
}

// Ready reports whether readiness is pass or warn.
func (r *Report) Ready() bool { g, ok := r.Group(GroupReady); return ok && g.Status.OK() }

// Report says what the monitor knows at this moment. It looks at the clock and at the last
// verdicts, and runs nothing.
func (m *Monitor) Report() *Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.now()
	s := newPages(m.factsLocked(), now, m.pub.page.Load())
	r := &Report{At: m.clock.wall(now), Started: s.phase == running, Draining: s.draining}
	for _, h := range s.holds {
		r.Holds = append(r.Holds, Hold{Reason: h.reason, Since: m.clock.wall(h.since)})
	}
	for _, g := range s.groups {
		r.Groups = append(r.Groups, GroupReport{
			Name: g.name, Status: g.status, Since: m.clock.wall(g.since), Reason: g.reason(nil),
		})
	}
	for i := range s.seen {
		r.Checks = append(r.Checks, m.checkReportLocked(&s.seen[i]))
	}
	for _, h := range s.heartbeats {
		b := HeartbeatReport{Name: h.name, Status: StatusPass, LastBeat: m.clock.wall(h.last.Load()), MaxAge: h.maxAge}
		if s.beating() && now > h.expires() {
			b.Status = StatusFail
		}
		r.Heartbeats = append(r.Heartbeats, b)
	}
	return r
}

func (m *Monitor) checkReportLocked(c *seen) CheckReport {
	s, v, wall := c.state, c.verdict, m.clock.wall
	rep := CheckReport{
		Name: s.check.Name, Impact: s.check.Impact, Groups: slices.Clone(s.check.Groups),
		Status: v.status, Since: wall(v.since), Err: v.err, Fault: v.fault,
		MaxAge: s.check.MaxAge, Failures: s.streak.failures, CausedBy: slices.Clone(c.causes),
		Runs: s.count.begun, FailedRuns: s.count.failed, Duration: time.Duration(s.count.took),
	}
	if at := s.lastResult.Load(); at != noResult {
		rep.LastResult = wall(at)
	}
	if v.hungSince != 0 {
		rep.HungSince = wall(v.hungSince)
	}
	return rep
}
