package health

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// pages is a snapshot with the verdict on every group, ready to be served. It is immutable but for
// what its groups render. Making one needs facts and a clock and no lock, so any request that finds
// an expired one can make a new one.
type pages struct {
	snapshot

	groups []*groupPage // live, ready, startup, then by name
}

// Positions in pages.groups.
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

// newPages judges f at clock now. prev, nil at first, lends the times since which groups have their
// status.
func newPages(f facts, now int64, prev *pages) *pages {
	p := &pages{snapshot: newSnapshot(f, now)}
	p.makeGroups()
	for _, g := range p.groups {
		g.status = g.judge(nil)
		g.since = now
		if prev != nil {
			if was := prev.group(g.name); was != nil && was.status == g.status {
				g.since = was.since
			}
		}
	}
	if f.latched == never && p.groups[startupAt].status.OK() {
		p.latched = now
		p.groups[startupAt].status = StatusPass
	}
	return p
}

func (p *pages) makeGroups() {
	for _, name := range everyGroup() {
		p.groups = append(p.groups, &groupPage{name: name, snap: &p.snapshot})
	}
	for i := range p.seen {
		for _, name := range p.seen[i].state.check.Groups {
			g := p.group(name)
			if g == nil {
				g = &groupPage{name: name, snap: &p.snapshot}
				at, _ := slices.BinarySearchFunc(p.groups[customAt:], name, byGroupName)
				p.groups = slices.Insert(p.groups, customAt+at, g)
			}
			g.members = append(g.members, &p.seen[i])
		}
	}
}

func byGroupName(g *groupPage, name string) int { return strings.Compare(g.name, name) }

// group returns the named group, nil if there is none.
func (p *pages) group(name string) *groupPage {
	for _, g := range p.groups[:customAt] {
		if g.name == name {
			return g
		}
	}
	at, found := slices.BinarySearchFunc(p.groups[customAt:], name, byGroupName)
	if !found {
		return nil
	}
	return p.groups[customAt+at]
}

// format is the way a page is written.
type format uint8

const (
	plainText format = iota
	jsonText
	formats
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
	case c.verdict.status == StatusWarn || c.state.check.Impact == ImpactDegrading:
		return StatusWarn
	}
	return StatusFail
}

// judgeLive fails if a heartbeat that counts is too old.
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
		at, found := slices.BinarySearchFunc(g.snap.heartbeats, name, byHeart)
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
		name: c.name(), impact: c.state.check.Impact, status: v.status, since: v.since, hungSince: v.hungSince,
		text: v.text, fault: v.fault, causes: c.causes,
	}
	if v.status == StatusUnknown {
		it.text = "no result yet"
	}
	return it
}

// heartItem prints no time of a beat that is in time: it would be another one at every request.
func (s *snapshot) heartItem(h *heart) item {
	it := item{name: h.name, status: StatusPass}
	if s.beating() && h.expires() < s.now {
		it.status, it.since = StatusFail, h.expires()
		it.text = fmt.Sprintf("last beat %s, more than %v ago", stamp(s.clock.wall(h.last.Load())), h.maxAge)
	}
	return it
}

// blame is what a group fails for: the check that weighs most, and behind it the root cause that
// takes most others down.
type blame struct{ victim, root *seen }

func (g *groupPage) blame(skip func(name string) bool) (blame, bool) {
	var b blame
	victims := map[string]int{}
	for _, c := range g.members {
		if skip != nil && skip(c.name()) {
			continue
		}
		for _, cause := range c.causes {
			victims[cause]++
		}
		if c.weight() > 0 && (b.victim == nil || c.weight() > b.victim.weight()) {
			b.victim = c
		}
	}
	if b.victim == nil {
		return blame{}, false
	}
	b.root = b.victim
	most := 0
	for _, cause := range b.victim.causes {
		if victims[cause] > most {
			b.root, most = g.snap.check(cause), victims[cause]
		}
	}
	return b, true
}

// String names the root cause first, for the operator that has to act on it.
func (b blame) String() string {
	root := b.root.item()
	var s strings.Builder
	if b.victim != b.root {
		s.WriteString(b.victim.name() + " is down because of ")
	}
	s.WriteString(root.name + ": " + root.text)
	if k := root.fault.Kind; k != KindNone && k != KindUnknown {
		s.WriteString(" (" + string(k) + ")")
	}
	return s.String()
}

// weight orders what keeps a group from passing: what fails it before what degrades it, failed
// before unknown before degraded.
func (c *seen) weight() int {
	w := 0
	switch c.verdict.status {
	case StatusPass:
		return 0
	case StatusWarn:
		w = 1
	case StatusUnknown:
		w = 2
	case StatusFail:
		w = 3
	}
	if c.burden() == StatusFail {
		w += 3
	}
	return w
}

// reason is one line that says why the status is not pass. Empty when it is. skip leaves members
// out.
func (g *groupPage) reason(skip func(name string) bool) string {
	if o := g.obstacle(); o != "" {
		return o
	}
	if g.name == GroupLive {
		for _, it := range g.items() {
			if it.status == StatusFail && (skip == nil || !skip(it.name)) {
				return it.name + ": " + it.text
			}
		}
		return ""
	}
	if g.name == GroupStartup && g.status == StatusPass {
		return ""
	}
	if b, ok := g.blame(skip); ok {
		return b.String()
	}
	return ""
}
