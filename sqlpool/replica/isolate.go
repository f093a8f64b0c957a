package replica

import (
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
)

// sample returns the measurements of a replica's traffic and poll since its last poll. The caller
// holds polling.
func (m *member) sample(o *observation) isolation.Sample {
	now, errors := m.pool.Stats(), m.errors.Load()
	seen := isolation.Between(m.before, now)
	seen.Failures = max(seen.Failures, errors-m.errorsBefore) // the errors of dials and of waits are in both
	seen.Requests = max(seen.Requests, seen.Failures) + 1     // and the poll
	if o.err != nil {
		seen.Failures++
	} else {
		seen.Poll = o.took
	}
	m.before, m.errorsBefore = now, errors
	return seen
}

// judgeLocked decides which replicas are isolated, and returns what has changed.
func (s *set) judgeLocked(now time.Time) []step {
	if !s.scores.On() {
		return nil
	}
	all := make([]isolation.Member[*member], 0, len(s.members)-1)
	for _, m := range s.members[1:] {
		all = append(all, isolation.Member[*member]{Key: m, Fit: m.state == StateReady})
	}
	var steps []step
	for _, c := range s.scores.Judge(now, all) {
		steps = append(steps, step{c.Key, c.Event()})
	}
	return steps
}

// shownLocked returns the state of a member, isolation included, since when it lasts, and its standing.
func (s *set) shownLocked(m *member) (state State, since time.Time, standing isolation.Standing) {
	standing = s.scores.Standing(m)
	switch {
	case m.state != StateReady || standing.State == isolation.Serving:
		return m.state, m.since, standing
	case standing.State == isolation.Trial:
		return StateTrial, standing.Since, standing
	default:
		return StateIsolated, standing.Since, standing
	}
}

// isolatedError is the reason for which a replica is isolated.
type isolatedError string

func (e isolatedError) Error() string { return string(e) }

// HealthFault gives health.Classify its kind and advice.
func (isolatedError) HealthFault() health.Fault {
	return health.Fault{
		Kind:   quality.KindSlow,
		Advice: "it serves worse than the others: look at the load of the server, at its disks and at the network to it",
	}
}
