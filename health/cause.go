package health

import (
	"slices"
	"strings"
)

// maxCauses bounds how many root causes are named for one check.
const maxCauses = 8

// findCauses fills in seen.causes: for every failed check the failed checks at the far ends of its
// dependencies. It is a depth-first walk, linear in checks and dependencies; a cycle is cut where
// it closes.
func findCauses(s *snapshot) {
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
	for _, on := range c.reg.check.DependsOn {
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
