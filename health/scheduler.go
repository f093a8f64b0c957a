package health

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"runtime/debug"
	"slices"
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
)

// scheduler is one timer over one heap. It has no goroutine of its own: the timer's function is the
// monitor's, which calls runDue and launch and arms the timer again. Everything in it is guarded by
// Monitor.mu.
type scheduler struct {
	clock    clock
	finished func(*checkState, *run, result) // called without the lock, on the goroutine of a run
	timer    *time.Timer
	armed    int64 // clock the timer is set to
	due      dueHeap
	lanes    [2]lane // [1] is for checks whose last run timed out
	runs     map[*run]struct{}
	probed   map[string]*run // by name of the check: one probe of a name runs at a time, whichever registration it has
	pace     int64           // clock before which no further first run begins
	heart    *heart
	// newContext makes the context of one run.
	newContext func(time.Duration) (context.Context, context.CancelFunc)
	// cancel ends the contexts of all runs.
	cancel context.CancelFunc
}

// lane bounds how many probes run at once.
type lane struct {
	free    int
	waiting []*checkState // first in, first out
}

func (s *scheduler) init(c clock, maxConcurrent int, finished func(*checkState, *run, result)) {
	s.clock, s.finished = c, finished
	s.runs, s.probed = make(map[*run]struct{}), make(map[string]*run)
	s.lanes = [2]lane{{free: maxConcurrent}, {free: maxConcurrent}}
	s.cancel = func() {}
	s.heart = &heart{name: schedulerHeart, maxAge: schedulerMaxAge}
	s.heart.last.Store(c.now())
}

// start plans the first runs of checks, and has tick called when one of them is due.
func (s *scheduler) start(ctx context.Context, checks []*checkState, now int64, tick func()) {
	base, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	s.newContext = func(d time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(base, d)
	}
	for _, c := range checks {
		s.planFirst(c, now)
	}
	s.armed = now + int64(tickEvery)
	s.timer = time.AfterFunc(tickEvery, tick)
	s.arm(now, never)
}

// stop leaves nothing that would start another run.
func (s *scheduler) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.cancel()
	for _, c := range s.due {
		c.index = -1
	}
	s.due = nil
	for i := range s.lanes {
		s.lanes[i].waiting = nil
	}
}

// arm sets the timer to the next moment there is something to do, at clock at at the latest.
func (s *scheduler) arm(now, at int64) {
	at = min(at, now+int64(tickEvery))
	if len(s.due) > 0 {
		at = min(at, s.due[0].next)
	}
	if at < s.armed || s.armed <= now {
		s.armed = at
		s.timer.Reset(time.Duration(max(at-now, 0)))
	}
}

// runDue beats and attends to whatever is due. It reports whether a verdict changed.
func (s *scheduler) runDue(now int64) (changed bool) {
	s.heart.last.Store(now)
	for len(s.due) > 0 && s.due[0].next <= now {
		c, _ := heap.Pop(&s.due).(*checkState)
		changed = s.attend(c, now) || changed
	}
	return changed
}

// attend does what is due for c: its run has reached its timeout, or it is time for the next one.
func (s *scheduler) attend(c *checkState, now int64) (changed bool) {
	switch {
	case c.run != nil && !c.run.overdue:
		s.giveUp(c)
		c.slow = true
		c.count.ended(now-c.run.started, failed)
		changed = c.record(timedOut(c.check.Timeout, nil), now, now)
		s.plan(c, now)
	case c.run != nil:
		changed = c.record(hung(c.run.started, s.clock.wall(c.run.started)), now, now)
		s.plan(c, now)
	case s.probed[c.check.Name] != nil:
		changed = s.awaitNamesake(c, s.probed[c.check.Name], now)
	case c.standIn(now):
		changed = c.record(resultOf(nil), c.trafficFrom, now)
		c.trafficFrom = now
		s.plan(c, now)
	default:
		c.waiting = true
		l := &s.lanes[laneOf(c)]
		l.waiting = append(l.waiting, c)
	}
	return changed
}

// awaitNamesake puts off the run of a check while a probe runs that was started for an earlier
// check of its name, so that a name that is registered again and again has one hung probe at most.
// That probe's context has ended: if it has not returned a Timeout later, it hangs.
func (s *scheduler) awaitNamesake(c *checkState, rn *run, now int64) (changed bool) {
	if at := later(rn.removed, c.check.Timeout); now < at {
		s.schedule(c, at)
		return false
	}
	changed = c.record(hung(rn.started, s.clock.wall(rn.started)), now, now)
	s.plan(c, now)
	return changed
}

// giveUp frees the place of a run that has not returned.
func (s *scheduler) giveUp(c *checkState) {
	if !c.run.overdue {
		c.run.overdue = true
		s.lanes[c.run.lane].free++
	}
}

func laneOf(c *checkState) int {
	if c.slow {
		return 1
	}
	return 0
}

// launch starts the runs that wait and have a place.
func (s *scheduler) launch(now int64) {
	for i := range s.lanes {
		l := &s.lanes[i]
		for l.free > 0 && len(l.waiting) > 0 {
			c := l.waiting[0]
			l.waiting[0] = nil
			l.waiting = l.waiting[1:]
			c.waiting = false
			l.free--
			s.startRun(c, i, now)
		}
	}
}

func (s *scheduler) startRun(c *checkState, lane int, now int64) {
	ctx, cancel := s.newContext(c.check.Timeout)
	rn := &run{name: c.check.Name, lane: lane, started: now, cancel: cancel, done: make(chan struct{})}
	s.runs[rn], s.probed[rn.name] = struct{}{}, rn
	c.run, c.started, c.trafficFrom, c.standIns = rn, now, now, 0
	c.count.begun++
	c.hastened.Store(false)
	c.traffic.Store(false)
	s.schedule(c, later(now, c.check.Timeout))
	// Owner: the scheduler, which has it in runs. Stop signal: its context, at the timeout, at
	// Remove and at Stop. Waiters: Remove and Stop, both as long as their caller allows.
	go probe(ctx, c, rn, s.clock, s.finished)
}

// probe runs c's probe once and hands in what came of it, however it ends. It runs without the
// lock.
func probe(ctx context.Context, c *checkState, rn *run, clock clock, finished func(*checkState, *run, result)) {
	defer rn.cancel()
	var res result
	returned := false
	defer func() {
		if v := recover(); v != nil {
			res = resultOf(newPanicError(v, debug.Stack()))
		} else if !returned {
			res = resultOf(errGoexit)
		}
		finished(c, rn, res)
	}()
	err := c.check.Probe(ctx)
	// Error texts are made here, not under the monitor's lock: an Error method is code of the
	// service and may hang or panic.
	if clock.now()-rn.started >= int64(c.check.Timeout) {
		res = timedOut(c.check.Timeout, err)
	} else {
		res = resultOf(err)
	}
	returned = true
}

// end takes a run out that has left its probe.
func (s *scheduler) end(c *checkState, rn *run) {
	delete(s.runs, rn)
	delete(s.probed, rn.name)
	close(rn.done)
	if c.run == rn {
		c.run = nil
	}
	if !rn.overdue {
		s.lanes[rn.lane].free++
	}
}

// take takes the result of a run that has ended, unless it comes too late to count. heir is the
// check that has the name of c now if c was removed, nil if there is none.
func (s *scheduler) take(c *checkState, rn *run, res result, heir *checkState, now int64) (changed bool) {
	switch {
	case c.removed:
		if heir != nil && heir.index >= 0 {
			if changed = s.unhang(heir, now); !changed {
				s.schedule(heir, min(heir.next, now))
			}
		}
	case rn.overdue:
		c.count.took = now - rn.started // it has failed when it timed out
		changed = s.unhang(c, now)
	default:
		c.slow = res.late
		c.count.ended(now-rn.started, res.outcome)
		changed = c.record(res, now, now)
		s.plan(c, now)
	}
	return changed
}

// unhang lets a check run again soon whose last run came back too late to count, unless it has
// failed and backs off.
func (s *scheduler) unhang(c *checkState, now int64) (changed bool) {
	changed, soon := c.returned()
	if soon {
		s.schedule(c, min(c.next, c.soonest(now)))
	}
	return changed
}

// drop forgets c, and cancels its run.
func (s *scheduler) drop(c *checkState, now int64) {
	if c.index >= 0 {
		heap.Remove(&s.due, c.index)
	}
	if c.waiting {
		l := &s.lanes[laneOf(c)]
		l.waiting = slices.DeleteFunc(l.waiting, func(w *checkState) bool { return w == c })
		c.waiting = false
	}
	if c.run != nil {
		c.run.cancel()
		c.run.removed = now
		s.giveUp(c)
	}
}

// planFirst plans the first run: at once or after InitialDelay, but one by one.
func (s *scheduler) planFirst(c *checkState, now int64) {
	s.pace = max(s.pace, now)
	s.schedule(c, later(s.pace, c.check.InitialDelay))
	s.pace += firstPace
}

// plan plans the run after a result.
func (s *scheduler) plan(c *checkState, now int64) {
	soonest := c.soonest(now)
	if s.probed[c.check.Name] != nil { // it has not come back: see whether it does; unhang brings the next run forward
		soonest = later(now, c.check.RetryInterval)
	}
	interval, jitter := c.check.Interval, c.check.Jitter
	var at int64
	switch {
	case c.streak.undecided():
		at = soonest
	case c.streak.status == StatusFail:
		at = later(now, shorten(backoff(c.backoff, interval), jitter, rand.Float64()))
	default:
		c.slot = slotAfter(now, interval, c.phase, c.slot)
		at = later(slotStart(c.slot, interval, c.phase), part(interval, jitter*rand.Float64()))
	}
	if c.hastened.Load() {
		at = min(at, soonest)
	}
	s.schedule(c, at)
}

// hasten brings the next run of c forward, and reports whether it did.
func (s *scheduler) hasten(c *checkState, now int64) bool {
	if c.removed || c.waiting || c.run != nil || c.index < 0 {
		return false // plan sees the request at Start, or when the run in flight returns
	}
	at := c.soonest(now)
	if at >= c.next {
		return false
	}
	s.schedule(c, at)
	return true
}

// schedule puts c at clock at into the heap, wherever it was.
func (s *scheduler) schedule(c *checkState, at int64) {
	c.next = at
	if c.index >= 0 {
		heap.Fix(&s.due, c.index)
	} else {
		heap.Push(&s.due, c)
	}
}

// dueHeap orders checks by when the scheduler has to attend to them. It is a container/heap that
// tells each check its position, so that any of them can be moved.
type dueHeap []*checkState

// Len, Less, Swap, Push and Pop are for container/heap only.
func (h *dueHeap) Len() int           { return len(*h) }
func (h *dueHeap) Less(i, j int) bool { return (*h)[i].next < (*h)[j].next }
func (h *dueHeap) Swap(i, j int) {
	a := *h
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (h *dueHeap) Push(x any) {
	c, _ := x.(*checkState)
	c.index = len(*h)
	*h = append(*h, c)
}

func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	last.index = -1
	return last
}
