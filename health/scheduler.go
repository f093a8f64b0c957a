package health

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"
)

const (
	// tickEvery is the longest the scheduler sleeps: it beats its own heart.
	tickEvery = 5 * time.Second
	// schedulerMaxAge is how long it may be silent before liveness fails.
	schedulerMaxAge = 30 * time.Second
	// schedulerHeart is the name of its heartbeat.
	schedulerHeart = "health scheduler"
	// firstPace is the time between two first runs, so that a thousand checks do not all begin in
	// one instant.
	firstPace = int64(200 * time.Microsecond)
	// maxStandIns is how many runs in a row live traffic may stand in for.
	maxStandIns = 4
)

// scheduler is one timer over one heap. It has no goroutine of its own: the timer's function looks
// at what is due and arms the timer again. Everything in it is guarded by Monitor.mu.
type scheduler struct {
	timer  *time.Timer
	armed  int64 // clock the timer is set to
	due    dueHeap
	lanes  [2]lane // [1] is for checks whose last run timed out
	runs   map[*run]struct{}
	probed map[string]*run // by name of the check: one probe of a name runs at a time, whichever registration it has
	pace   int64           // clock before which no further first run begins
	expiry int64           // clock after which what was last published has to be judged again, and listeners told
	heart  *Heartbeat
	// newContext makes the context of one run.
	newContext func(time.Duration) (context.Context, context.CancelFunc)
	// cancel ends the contexts of all runs.
	cancel context.CancelFunc
}

// lane bounds how many probes run at once.
type lane struct {
	free    int
	waiting []*Registration // first in, first out
}

func (s *scheduler) init(m *Monitor) {
	s.runs, s.probed = make(map[*run]struct{}), make(map[string]*run)
	s.lanes = [2]lane{{free: m.cfg.MaxConcurrent}, {free: m.cfg.MaxConcurrent}}
	s.cancel = func() {}
	s.heart = &Heartbeat{m: m, name: schedulerHeart, maxAge: schedulerMaxAge}
}

func (m *Monitor) startSchedulerLocked(ctx context.Context, now int64) {
	base, cancel := context.WithCancel(ctx)
	m.sched.cancel = cancel
	m.sched.newContext = func(d time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(base, d)
	}
	for _, r := range m.checks {
		m.planFirstLocked(r, now)
	}
	m.sched.armed = now + int64(tickEvery)
	m.sched.timer = time.AfterFunc(tickEvery, m.tick)
	m.armLocked(now)
}

// stopSchedulerLocked leaves nothing that would start another run.
func (m *Monitor) stopSchedulerLocked() {
	if m.sched.timer != nil {
		m.sched.timer.Stop()
	}
	m.sched.cancel()
	for _, r := range m.sched.due {
		r.index = -1
	}
	m.sched.due = nil
	for i := range m.sched.lanes {
		m.sched.lanes[i].waiting = nil
	}
}

// tick is the timer's function: it attends to whatever is due.
func (m *Monitor) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != running {
		return
	}
	now := m.now()
	m.sched.heart.last.Store(now)
	changed := false
	for len(m.sched.due) > 0 && m.sched.due[0].next <= now {
		r, _ := heap.Pop(&m.sched.due).(*Registration)
		changed = m.attendLocked(r, now) || changed
	}
	m.settleLocked(now, changed)
}

// settleLocked ends every change of the schedule: it starts what can start, publishes, and arms the
// timer.
func (m *Monitor) settleLocked(now int64, changed bool) {
	m.launchLocked(now)
	// A silent heart may beat again without anybody saying so.
	m.dirty = m.dirty || changed || now > m.sched.expiry || m.page.Load().groups[liveAt].status == StatusFail
	m.publishSoonLocked(now)
	m.armLocked(now)
}

// armLocked sets the timer to the next moment there is something to do.
func (m *Monitor) armLocked(now int64) {
	at := now + int64(tickEvery)
	if len(m.sched.due) > 0 {
		at = min(at, m.sched.due[0].next)
	}
	switch {
	case m.dirty:
		at = min(at, m.publishAt)
	case m.sched.expiry != never:
		at = min(at, m.sched.expiry+1)
	}
	if at < m.sched.armed || m.sched.armed <= now {
		m.sched.armed = at
		m.sched.timer.Reset(time.Duration(max(at-now, 0)))
	}
}

// attendLocked does what is due for r: its run has reached its timeout, or it is time for the next
// one.
func (m *Monitor) attendLocked(r *Registration, now int64) (changed bool) {
	switch {
	case r.run != nil && !r.run.overdue:
		m.giveUpLocked(r)
		r.slow = true
		changed = m.recordLocked(r, timedOut(r.check.Timeout, nil), now, now)
		m.planLocked(r, now)
	case r.run != nil:
		changed = m.recordLocked(r, hung(r.run.started, m.wall(r.run.started)), now, now)
		m.planLocked(r, now)
	case m.sched.probed[r.check.Name] != nil:
		changed = m.awaitNamesakeLocked(r, m.sched.probed[r.check.Name], now)
	case m.standInLocked(r, now):
		changed = m.recordLocked(r, resultOf(nil), r.trafficFrom, now)
		r.trafficFrom = now
		m.planLocked(r, now)
	default:
		r.waiting = true
		l := &m.sched.lanes[laneOf(r)]
		l.waiting = append(l.waiting, r)
	}
	return changed
}

// awaitNamesakeLocked puts off the run of a check while a probe runs that was started for an
// earlier check of its name, so that a name that is registered again and again has one hung probe
// at most. That probe's context has ended: if it has not returned a Timeout later, it hangs.
func (m *Monitor) awaitNamesakeLocked(r *Registration, rn *run, now int64) (changed bool) {
	if at := later(rn.removed, r.check.Timeout); now < at {
		m.scheduleLocked(r, at)
		return false
	}
	changed = m.recordLocked(r, hung(rn.started, m.wall(rn.started)), now, now)
	m.planLocked(r, now)
	return changed
}

// giveUpLocked frees the place of a run that has not returned.
func (m *Monitor) giveUpLocked(r *Registration) {
	if !r.run.overdue {
		r.run.overdue = true
		m.sched.lanes[r.run.lane].free++
	}
}

func laneOf(r *Registration) int {
	if r.slow {
		return 1
	}
	return 0
}

// standInLocked is whether live traffic has answered for this run.
func (m *Monitor) standInLocked(r *Registration, now int64) bool {
	if !r.check.TrafficCounts || r.state.status != StatusPass || r.state.undecided() || r.hastened.Load() ||
		r.standIns >= maxStandIns || !r.traffic.Load() {
		return false
	}
	// The success may be as old as the last look; the verdict must not expire before the next one.
	if later(r.trafficFrom, r.check.MaxAge) <= later(now, r.check.minAge()) {
		return false
	}
	r.traffic.Store(false)
	r.standIns++
	return true
}

// launchLocked starts the runs that wait and have a place.
func (m *Monitor) launchLocked(now int64) {
	for i := range m.sched.lanes {
		l := &m.sched.lanes[i]
		for l.free > 0 && len(l.waiting) > 0 {
			r := l.waiting[0]
			l.waiting[0] = nil
			l.waiting = l.waiting[1:]
			r.waiting = false
			l.free--
			m.startLocked(r, i, now)
		}
	}
}

func (m *Monitor) startLocked(r *Registration, lane int, now int64) {
	ctx, cancel := m.sched.newContext(r.check.Timeout)
	rn := &run{name: r.check.Name, lane: lane, started: now, cancel: cancel, done: make(chan struct{})}
	m.sched.runs[rn], m.sched.probed[rn.name] = struct{}{}, rn
	r.run, r.started, r.trafficFrom, r.standIns = rn, now, now, 0
	r.hastened.Store(false)
	r.traffic.Store(false)
	m.scheduleLocked(r, later(now, r.check.Timeout))
	// Owner: the monitor, which has it in sched.runs. Stop signal: its context, at the timeout, at
	// Remove and at Stop. Waiters: Remove and Stop, both as long as their caller allows.
	go m.probe(ctx, r, rn)
}

// scheduleLocked puts r at clock at into the heap, wherever it was.
func (m *Monitor) scheduleLocked(r *Registration, at int64) {
	r.next = at
	if r.index >= 0 {
		heap.Fix(&m.sched.due, r.index)
	} else {
		heap.Push(&m.sched.due, r)
	}
}

// drop forgets r.
func (s *scheduler) drop(r *Registration) {
	if r.index >= 0 {
		heap.Remove(&s.due, r.index)
	}
	if !r.waiting {
		return
	}
	for i := range s.lanes {
		for j, w := range s.lanes[i].waiting {
			if w == r {
				s.lanes[i].waiting = append(s.lanes[i].waiting[:j:j], s.lanes[i].waiting[j+1:]...)
				break
			}
		}
	}
	r.waiting = false
}

// planFirstLocked plans the first run: at once or after InitialDelay, but one by one.
func (m *Monitor) planFirstLocked(r *Registration, now int64) {
	m.sched.pace = max(m.sched.pace, now)
	m.scheduleLocked(r, later(m.sched.pace, r.check.InitialDelay))
	m.sched.pace += firstPace
	if m.sched.timer != nil {
		m.armLocked(now)
	}
}

// planLocked plans the run after a result.
func (m *Monitor) planLocked(r *Registration, now int64) {
	c := &r.check
	soonest := max(now, later(r.started, c.RetryInterval))
	if m.sched.probed[c.Name] != nil { // it has not come back: see whether it does; unhangLocked brings the next run forward
		soonest = later(now, c.RetryInterval)
	}
	var at int64
	switch {
	case r.state.undecided():
		at = soonest
	case r.state.status == StatusFail:
		at = later(now, shorten(backoff(r.backoff, c.Interval), c.Jitter, rand.Float64()))
	default:
		r.slot = slotAfter(now, c.Interval, r.phase, r.slot)
		at = later(slotStart(r.slot, c.Interval, r.phase), part(c.Interval, c.Jitter*rand.Float64()))
	}
	if r.hastened.Load() {
		at = min(at, soonest)
	}
	m.scheduleLocked(r, at)
}

// hasten brings the next run of r forward.
func (m *Monitor) hasten(r *Registration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != running || r.removed || r.waiting || r.run != nil || r.index < 0 {
		return // planLocked sees the request at Start, or when the run in flight returns
	}
	now := m.now()
	if at := max(now, later(r.started, r.check.RetryInterval)); at < r.next {
		m.scheduleLocked(r, at)
		m.armLocked(now)
	}
}
