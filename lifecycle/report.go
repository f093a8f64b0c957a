package lifecycle

import (
	"slices"
	"time"
)

// Outcome says how a component came up or went down.
type Outcome uint8

// The outcomes.
const (
	OutcomeNone      Outcome = iota // not yet, or its turn never came
	OutcomeOK                       // in time and without an error
	OutcomeFailed                   // it returned an error, or panicked
	OutcomeAborted                  // its time was over; Abort ended it
	OutcomeAbandoned                // its time was over, and something of it may still run
	OutcomeHeld                     // not stopped: what depends on it hangs, or no time was left
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case OutcomeNone:
		return "none"
	case OutcomeOK:
		return "ok"
	case OutcomeFailed:
		return "failed"
	case OutcomeAborted:
		return "aborted"
	case OutcomeAbandoned:
		return "abandoned"
	case OutcomeHeld:
		return "held"
	}
	return "unknown"
}

// Step is one component's way up or down. It is a value: nothing in it changes after it was
// returned.
type Step struct {
	Name    string
	Began   time.Time     // when its turn came; zero if it never did
	Took    time.Duration // from Began until it was up, down or given up
	Drain   time.Duration // the part of Took spent in Drain
	Outcome Outcome
	Err     error
}

// Report is how a start or a shutdown went. It is immutable.
type Report struct {
	Began time.Time
	Took  time.Duration // DrainDelay included
	Delay time.Duration // the part of Took that was DrainDelay
	// Steps are those of the components, in the order in which they ended.
	Steps []Step
	// Critical names the components that Took was made of: each waited for the one before it. To be
	// faster, make one of these faster.
	Critical []string
	Err      error
}

// story is what a Report is made of when a caller asks for one.
type story struct {
	pass        *pass // nil while it is not over
	took, delay time.Duration
	err         error
	told        *Report
}

// reportLocked returns how it went, or nil if it is not over.
func (r *Registry) reportLocked(s *story) *Report {
	if s.pass != nil && s.told == nil {
		s.told = r.tellLocked(s)
	}
	return s.told
}

func (r *Registry) tellLocked(s *story) *Report {
	p := s.pass
	rep := &Report{
		Began: r.wall(p.began.after(-s.delay)), Took: s.took, Delay: s.delay, Err: s.err,
		Steps: make([]Step, len(p.order)),
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
	outcome     Outcome
}

func (r *Registry) stepOf(n *node, s step) Step {
	if s.began == 0 && s.outcome == OutcomeNone {
		return Step{}
	}
	return Step{Name: n.name, Began: r.wall(s.began), Took: s.took, Drain: s.drain, Outcome: s.outcome, Err: s.err}
}

// criticalPath follows the node that ended last back to the first: each began when the one before
// it had settled. What was held open never had its turn, so it has taken no time.
func (p *pass) criticalPath() []string {
	var path []string
	last := len(p.order) - 1
	for last >= 0 && !p.up && p.order[last].down.outcome == OutcomeHeld {
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
