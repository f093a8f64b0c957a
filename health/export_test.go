package health

import (
	"fmt"
	"time"
)

// The pure functions, for tests that compare them with naive twins.
var (
	ParseQuery = parseQuery
	Backoff    = backoff
	Shorten    = shorten
	Spread     = spread
	SlotAfter  = slotAfter
	SlotStart  = slotStart
)

// MaxCauses is maxCauses.
const MaxCauses = maxCauses

// Outcome is what one run said.
type Outcome = outcome

// Outcomes.
const (
	Passed   = passed
	Warned   = degraded
	Failed   = failed
	MaxQuery = maxQuery
)

// After runs the state machine over results.
func After(results []Outcome, failureThreshold, successThreshold int) (status Status, undecided bool) {
	var s streak
	for _, o := range results {
		s = s.next(o, failureThreshold, successThreshold)
	}
	return s.status, s.undecided()
}

// TimedOut is the reason of a run that took too long.
func TimedOut(after time.Duration, err error) (string, error) {
	r := timedOut(after, err)
	return r.text, r.err
}

// Negotiate returns the content type chosen for an Accept header.
func Negotiate(accept ...string) string { return negotiate(accept).contentType() }

// KillScheduler makes the scheduler die: nothing is run any more, and it does not beat. What else
// the monitor does goes on.
func KillScheduler(m *Monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sched.timer.Stop()
	m.sched.timer = time.AfterFunc(0, func() {}) // what would arm the old one arms this one
	for _, c := range m.sched.due {
		c.index = -1
	}
	m.sched.due = nil
}

// Seize takes the lock of the monitor, as a scheduler that is stuck would.
func Seize(m *Monitor) (release func()) {
	m.mu.Lock()
	return m.mu.Unlock
}

// TrafficStandIns is how many runs in a row traffic stood in for.
func (r *Registration) TrafficStandIns() int {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.state.standIns
}

// PendingOf is how many changes the listeners of m have not taken.
func PendingOf(m *Monitor) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for l := range m.pub.listeners {
		l.mu.Lock()
		n += l.pending.Len()
		l.mu.Unlock()
	}
	return n
}

// OfferTo returns what offers a change of the i-th of some checks to a listener that takes nothing.
func OfferTo(checks int) func(i int) {
	l := newListener()
	l.busy = true // a delivery is under way, and never returns
	names := make([]string, checks)
	for i := range names {
		names[i] = fmt.Sprint("check-", i)
	}
	return func(i int) {
		l.offer(Transition{Check: names[i%checks], From: Status(i % 3), To: StatusFail})
	}
}
