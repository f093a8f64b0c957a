package lifecycle

import "time"

// Outcome says how a component came up or went down.
type Outcome uint8

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

// Step is one component's way up or down. It is a value: nothing in it changes after it was returned.
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
	// Critical names the components that Took was made of: each waited for the one before it. To be faster, make one
	// of these faster.
	Critical []string
	Err      error
}

// reportLocked is how p went.
func (r *Registry) reportLocked(p *pass, took, delay time.Duration, err error) *Report {
	rep := &Report{
		Began: p.began.Add(-delay), Took: took, Delay: delay, Err: err,
		Steps: make([]Step, len(p.order)),
	}
	for i, n := range p.order {
		rep.Steps[i] = n.step(p.up)
	}
	if len(p.order) > 0 {
		rep.Critical = criticalPath(p.order[len(p.order)-1])
	}
	return rep
}

func (n *node) step(up bool) Step {
	if up {
		return n.up
	}
	s := n.down
	s.Name = n.name
	return s
}

// criticalPath follows the node that ended last back to the first: each began when the one before it had settled.
func criticalPath(end *node) []string {
	var path []string
	for n := end; n != nil; n = n.last {
		if n.comp != nil {
			path = append(path, n.name)
		}
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	return path
}
