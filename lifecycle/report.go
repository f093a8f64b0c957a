package lifecycle

import (
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// story is what a Report is made of when a caller asks for one.
type story struct {
	pass        *pass // nil while it is not over
	took, delay time.Duration
	err         error
	told        *event.Report
}

// reportLocked returns how it went, or nil if it is not over.
func (r *Registry) reportLocked(s *story) *event.Report {
	if s.pass != nil && s.told == nil {
		s.told = r.tellLocked(s)
	}
	return s.told
}

func (r *Registry) tellLocked(s *story) *event.Report {
	p := s.pass
	rep := &event.Report{
		Began: r.wall(p.began.after(-s.delay)), Took: s.took, Delay: s.delay, Err: s.err,
		Steps: make([]event.Step, len(p.order)),
	}
	for i, n := range p.order {
		if p.up {
			rep.Steps[i] = r.stepOf(n, n.up)
		} else {
			rep.Steps[i] = r.stepOf(n, n.down)
		}
	}
	rep.Critical = p.criticalPath()
	return rep
}

// step is a Step as a node keeps it.
type step struct {
	began       instant
	took, drain time.Duration
	err         error
	last        *node // the neighbour that settled last and so let it begin
	outcome     event.Outcome
}

func (r *Registry) stepOf(n *node, s step) event.Step {
	if s.began == 0 && s.outcome == event.OutcomeNone {
		return event.Step{}
	}
	return event.Step{Name: n.name, Began: r.wall(s.began), Took: s.took, Drain: s.drain, Outcome: s.outcome, Err: s.err}
}

// criticalPath follows the node that ended last back to the first: each began when the one before
// it had settled. What was held open never had its turn, so it has taken no time.
func (p *pass) criticalPath() []string {
	var path []string
	last := len(p.order) - 1
	for last >= 0 && !p.up && p.order[last].down.outcome == event.OutcomeHeld {
		last--
	}
	if last < 0 {
		return nil
	}
	for n := p.order[last]; n != nil; n = p.before(n) {
		if n.comp != nil {
			path = append(path, n.name)
		}
	}
	slices.Reverse(path)
	return path
}

func (p *pass) before(n *node) *node {
	if p.up {
		return n.up.last
	}
	return n.down.last
}
