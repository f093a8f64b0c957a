package health

import "time"

// KillScheduler makes the scheduler die: nothing is run any more, and it does not beat. What else the monitor does goes
// on.
func KillScheduler(m *Monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sched.timer.Stop()
	m.sched.timer = time.AfterFunc(0, func() {}) // what would arm the old one arms this one
	for _, r := range m.sched.due {
		r.index = -1
	}
	m.sched.due = nil
}
