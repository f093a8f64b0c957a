package health

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// groupPage is the verdict on one group, with its pages. It is immutable but for pages kept after
// their first use.
type groupPage struct {
	name     string
	snap     *snapshot
	status   Status  // never unknown
	since    int64   // clock at which status was reached
	members  []*seen // by name
	detailed [formats]atomic.Pointer[[]byte]
}

// judge works out the status. skip, if not nil, leaves members out.
func (g *groupPage) judge(skip func(name string) bool) Status {
	s := g.snap
	switch {
	case g.name == GroupLive:
		return g.judgeLive(skip)
	case g.name == GroupStartup && s.latched != never:
		return StatusPass
	case s.phase != running || s.draining || len(s.holds) > 0:
		return StatusFail
	}
	status := StatusPass
	for _, c := range g.members {
		if skip == nil || !skip(c.name()) {
			status = max(status, c.burden())
		}
	}
	return status
}

// burden is the status a group cannot be better than because of c.
func (c *seen) burden() Status {
	switch {
	case c.verdict.status == StatusPass:
		return StatusPass
	case c.verdict.status == StatusWarn || c.reg.check.Impact == ImpactDegrading:
		return StatusWarn
	}
	return StatusFail
}

// judgeLive fails if a heartbeat is too old. Before Start no loop has to beat. While the service
// drains, its loops end one by one. Silence means nothing then, and a restart would lose the work
// in flight.
func (g *groupPage) judgeLive(skip func(name string) bool) Status {
	if !g.snap.beating() {
		return StatusPass
	}
	for _, h := range g.snap.heartbeats {
		if h.expires() < g.snap.now && (skip == nil || !skip(h.name)) {
			return StatusFail
		}
	}
	return StatusPass
}

// beating is whether heartbeats count.
func (f *facts) beating() bool { return f.phase == running && !f.draining }

// obstacle is why the group fails whatever its checks say. Empty: it does not.
func (g *groupPage) obstacle() string {
	s := g.snap
	switch {
	case g.name == GroupLive, g.name == GroupStartup && s.latched != never:
		return ""
	case s.phase == created:
		return "not started"
	case s.draining:
		return "draining"
	case s.phase == stopped:
		return "stopped"
	case len(s.holds) > 0:
		return "held: " + s.holds[0].reason
	}
	return ""
}

// item is one line of a page: a check or a heartbeat.
type item struct {
	name      string
	impact    Impact
	status    Status
	since     int64 // 0: not told
	hungSince int64 // 0: does not hang
	text      string
	fault     Fault
	causes    []string
}

func (g *groupPage) items() []item {
	if g.name == GroupLive {
		items := make([]item, len(g.snap.heartbeats))
		for i, h := range g.snap.heartbeats {
			items[i] = g.snap.heartItem(h)
		}
		return items
	}
	items := make([]item, len(g.members))
	for i, c := range g.members {
		items[i] = c.item()
	}
	return items
}

// item returns the line of one member, and false if there is none of that name.
func (g *groupPage) item(name string) (item, bool) {
	if g.name == GroupLive {
		at, found := slices.BinarySearchFunc(g.snap.heartbeats, name, byHeartbeatName)
		if !found {
			return item{}, false
		}
		return g.snap.heartItem(g.snap.heartbeats[at]), true
	}
	at, found := slices.BinarySearchFunc(g.members, name, func(c *seen, name string) int {
		return strings.Compare(c.name(), name)
	})
	if !found {
		return item{}, false
	}
	return g.members[at].item(), true
}

func (c *seen) item() item {
	v := c.verdict
	it := item{
		name: c.name(), impact: c.reg.check.Impact, status: v.status, since: v.since, hungSince: v.hungSince,
		text: v.text, fault: v.fault, causes: c.causes,
	}
	if v.status == StatusUnknown {
		it.text = "no result yet"
	}
	return it
}

// heartItem prints no time of a beat that is in time: it would be another one at every request.
func (s *snapshot) heartItem(h *Heartbeat) item {
	it := item{name: h.name, status: StatusPass}
	if s.beating() && h.expires() < s.now {
		it.status, it.since = StatusFail, h.expires()
		it.text = fmt.Sprintf("last beat %s, more than %v ago", stamp(s.wall(h.last.Load())), h.maxAge)
	}
	return it
}
