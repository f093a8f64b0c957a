package health

import (
	"fmt"
	"slices"
	"strings"
)

// findCauses fills in seen.causes: for every failed check the failed checks at the far ends of its dependencies.
func findCauses(s *snapshot) {
	f := causeFinder{s: s, marks: make(map[string]mark)}
	for i := range s.seen {
		f.visit(&s.seen[i])
	}
}

type mark uint8

const (
	entered mark = iota + 1
	left
)

type causeFinder struct {
	s     *snapshot
	marks map[string]mark
}

// visit is a depth-first walk: linear in checks and dependencies, and a cycle is cut where it closes.
func (f *causeFinder) visit(c *seen) {
	name := c.reg.check.Name
	if f.marks[name] != 0 || c.verdict.status != StatusFail {
		return
	}
	f.marks[name] = entered
	for _, on := range c.reg.check.DependsOn {
		d := f.s.check(on)
		if d == nil || d.verdict.status != StatusFail {
			continue
		}
		f.visit(d)
		if f.marks[on] == entered {
			continue // a cycle: nobody in it is the cause of the others
		}
		if len(d.causes) == 0 {
			c.causes = append(c.causes, on)
		} else {
			c.causes = append(c.causes, d.causes...)
		}
	}
	slices.Sort(c.causes)
	c.causes = slices.Compact(c.causes)
	f.marks[name] = left
}

// checkReason says which check is to blame, the one first on which most of the others depend.
func (g *groupPage) checkReason() string {
	var worst *seen
	victims := map[string]int{}
	for _, c := range g.members {
		for _, cause := range c.causes {
			victims[cause]++
		}
		if worst == nil || g.weight(c) > g.weight(worst) {
			worst = c
		}
	}
	if worst == nil {
		return ""
	}
	root := worst
	for _, cause := range worst.causes {
		if c := g.snap.check(cause); root == worst || victims[cause] > victims[root.reg.check.Name] {
			root = c
		}
	}
	var b strings.Builder
	if root == worst {
		fmt.Fprintf(&b, "%s: %s", worst.reg.check.Name, worst.text())
	} else {
		fmt.Fprintf(&b, "%s is down because %s is: %s", worst.reg.check.Name, root.reg.check.Name, root.text())
	}
	if k := root.verdict.fault.Kind; k != KindNone && k != KindUnknown {
		fmt.Fprintf(&b, " (%s)", k)
	}
	return b.String()
}

// weight orders what keeps a group from passing: failed before unknown before degraded, critical before degrading.
func (g *groupPage) weight(c *seen) int {
	w := 0
	switch c.verdict.status {
	case StatusFail:
		w = 3
	case StatusUnknown:
		w = 2
	case StatusWarn:
		w = 1
	case StatusPass:
		return 0
	}
	if c.reg.check.Impact == Critical {
		w += 3
	}
	return w
}

// text is what is known about a check that does not pass.
func (c *seen) text() string {
	if c.verdict.status == StatusUnknown {
		return "no result yet"
	}
	return c.verdict.text
}
