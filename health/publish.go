package health

import (
	"math"
	"sync/atomic"
	"time"
)

// publisher makes the pages that handlers read, and tells listeners what changed. Pages are made in
// three places, all from the same facts:
//
//	publish   something changed: a verdict, a hold, draining, a check added or removed
//	expire    the published page reached its expiry: a timer of its own, which takes no lock, so that a verdict
//	          ages even if the scheduler is dead
//	fresh     a request that is not served from prepared bytes looks at the clock itself
type publisher struct {
	clock clock

	// page is what handlers read. It is stored under Monitor.mu; when it has expired it may be
	// replaced without, by one made from the same facts and a newer clock.
	page  atomic.Pointer[pages]
	timer *time.Timer // calls expire when page does; set once, by start

	// Guarded by Monitor.mu.
	listeners map[*listener]struct{}
	groupTold map[string]told
	dirty     bool  // something changed that is not published
	publishAt int64 // clock before which an ordinary change is not published
	expiry    int64 // clock after which what was last published has to be judged again, and listeners told
}

func (p *publisher) init(c clock) {
	p.clock = c
	p.listeners, p.groupTold = make(map[*listener]struct{}), make(map[string]told)
}

// start lets pages expire by themselves.
func (p *publisher) start() { p.timer = time.AfterFunc(math.MaxInt64, p.expire) }

// stop ends the listeners and the timer.
func (p *publisher) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
	for l := range p.listeners {
		l.finish()
	}
}

// publishPace is the least time between two publications, for each check there is: a page costs as
// much as there are checks, and when a thousand of them fail in the same second it need not be made
// a thousand times. What a caller asked for (draining, a hold, a new check) is published at once.
const publishPace = time.Microsecond

// publish makes the page that handlers read, and tells listeners what changed. It returns the clock
// at which startup was first true.
func (p *publisher) publish(f facts, now int64) (latched int64) {
	p.dirty, p.publishAt = false, now+int64(len(f.checks))*int64(publishPace)
	made := newPages(f, now, p.page.Load())
	p.expiry = made.expiry
	p.page.Store(made)
	p.guard(made, now)
	p.tell(made)
	return made.latched
}

// next is the clock at which there is something to publish.
func (p *publisher) next() int64 {
	switch {
	case p.dirty:
		return p.publishAt
	case p.expiry != never:
		return p.expiry + 1
	}
	return never
}

// changed takes note that there may be something to publish, and reports whether it is time to.
func (p *publisher) changed(verdicts bool, now int64) bool {
	// A heart that was silent may beat again, and no event says so.
	p.dirty = p.dirty || verdicts || now > p.expiry || p.page.Load().groups[liveAt].status == StatusFail
	return p.dirty && now >= p.publishAt
}

// guard has expire called when the page of made expires. Before Start and after Stop no group can
// pass, so there is nothing to guard.
func (p *publisher) guard(made *pages, now int64) {
	if made.phase == running && made.expiry != never {
		p.timer.Reset(time.Duration(max(0, made.expiry+1-now)))
	}
}

// expire replaces a page that has reached its expiry. It runs in the goroutine of its timer. It
// takes no lock and calls no code of the service, so nothing can keep it from running.
func (p *publisher) expire() {
	for {
		page := p.page.Load()
		now := p.clock.now()
		if now > page.expiry {
			page = p.renew(page, now)
		}
		p.guard(page, now)
		if p.page.Load() == page {
			return // else another goroutine published meanwhile, and the timer must have that page's expiry
		}
	}
}

// renew makes the page anew from what is known and the clock. If the scheduler has published
// meanwhile, its page stays.
func (p *publisher) renew(page *pages, now int64) *pages {
	renewed := newPages(page.facts, now, page)
	if !p.page.CompareAndSwap(page, renewed) {
		return p.page.Load()
	}
	return renewed
}

// fresh is the page of a group, compared with the clock; nil if there is no such group.
func (p *publisher) fresh(group string) *groupPage {
	page, now := p.page.Load(), p.clock.now()
	if now > page.expiry {
		page = p.renew(page, now)
	}
	if live := page.groups[liveAt]; group == GroupLive && live.status == StatusFail {
		// A heart that was silent may have begun to beat again. So judge at every request, but
		// without the checks, which do not concern liveness.
		f := page.facts
		f.checks = nil
		page = newPages(f, now, page)
	}
	return page.group(group)
}

// tell offers to every listener what changed since they were last told.
func (p *publisher) tell(made *pages) {
	for i := range made.seen {
		if t, changed := made.seen[i].transition(p.clock); changed {
			p.offer(t)
		}
	}
	for _, g := range made.groups {
		was, ok := p.groupTold[g.name]
		if ok && was.status == g.status {
			continue
		}
		p.groupTold[g.name] = told{g.status, g.since}
		p.offer(Transition{
			Group: g.name, From: was.status, To: g.status, At: p.clock.wall(g.since), Since: p.clock.wall(g.since),
			Lasted: time.Duration(g.since - was.since), Reason: g.reason(nil),
		})
	}
	p.forgetGroups(made)
}

// transition is what changed about c since listeners were last told, which they are now.
func (c *seen) transition(clock clock) (t Transition, changed bool) {
	s, v, was := c.state, c.verdict, c.state.told
	if was.status == v.status {
		return Transition{}, false
	}
	s.told = told{v.status, v.since}
	if v.status == StatusFail && s.streak.failures > 0 {
		s.told.since = s.failedFirst
	}
	return Transition{
		Check: c.name(), Impact: s.check.Impact, From: was.status, To: v.status,
		At: clock.wall(v.since), Since: clock.wall(s.told.since), Lasted: time.Duration(v.since - was.since),
		Failures: s.streak.failures, Err: v.err, Fault: v.fault, Reason: v.text, CausedBy: c.causes,
	}, true
}

// forgetGroups drops what was told about groups whose last check was removed.
func (p *publisher) forgetGroups(made *pages) {
	if len(p.groupTold) == len(made.groups) {
		return
	}
	for name := range p.groupTold {
		if made.group(name) == nil {
			delete(p.groupTold, name)
			p.forget(subject{group: name})
		}
	}
}

// forget drops what listeners have not yet taken about a check or group that is gone.
func (p *publisher) forget(about subject) {
	for l := range p.listeners {
		l.forget(about)
	}
}

func (p *publisher) offer(t Transition) {
	for l := range p.listeners {
		l.offer(t)
	}
}
