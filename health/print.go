package health

import (
	"fmt"
	"io"
)

// A monitor and what belongs to it change all the time, and hold errors of probes, whose text may
// have secrets in it. fmt would read them while they change, and print what is redacted elsewhere.
// So these types print what they are, whatever the verb.

// Format prints the status of readiness and the number of checks, for every verb.
func (m *Monitor) Format(f fmt.State, _ rune) {
	s := m.page.Load()
	_, _ = fmt.Fprintf(f, "health.Monitor{ready: %s, checks: %d}", s.groups[readyAt].status, len(s.checks))
}

// Format prints the name of the check, for every verb.
func (r *Registration) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "health.Registration{%s}", r.check.Name)
}

// Format prints the name of the heartbeat, for every verb.
func (h *Heartbeat) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "health.Heartbeat{%s}", h.name)
}

// Format prints the text without secrets, for every verb.
func (e *shownError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text) }
