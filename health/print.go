package health

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// A monitor and what belongs to it change all the time, and hold errors of probes, whose text may
// have secrets in it. fmt would read them while they change, and print what is redacted elsewhere.
// So these types print what they are, whatever the verb.

// String returns the status of readiness, and the number of checks.
func (m *Monitor) String() string {
	s := m.page.Load()
	return fmt.Sprintf("health.Monitor{ready: %s, checks: %d}", s.groups[readyAt].status, len(s.checks))
}

// Format prints what String returns, for every verb.
func (m *Monitor) Format(f fmt.State, _ rune) { printing.Format(f, m) }

// LogValue returns what String returns.
func (m *Monitor) LogValue() slog.Value { return printing.LogValue(m) }

// String returns the name of the check.
func (r *Registration) String() string { return fmt.Sprintf("health.Registration{%s}", r.check.Name) }

// Format prints what String returns, for every verb.
func (r *Registration) Format(f fmt.State, _ rune) { printing.Format(f, r) }

// LogValue returns what String returns.
func (r *Registration) LogValue() slog.Value { return printing.LogValue(r) }

// String returns the name of the heartbeat.
func (h *Heartbeat) String() string { return fmt.Sprintf("health.Heartbeat{%s}", h.name) }

// Format prints what String returns, for every verb.
func (h *Heartbeat) Format(f fmt.State, _ rune) { printing.Format(f, h) }

// LogValue returns what String returns.
func (h *Heartbeat) LogValue() slog.Value { return printing.LogValue(h) }

// String returns the score.
func (m *QualityMeter) String() string {
	return fmt.Sprintf("health.QualityMeter{score: %d}", m.Quality().Score)
}

// Format prints what String returns, for every verb.
func (m *QualityMeter) Format(f fmt.State, _ rune) { printing.Format(f, m) }

// LogValue returns what String returns.
func (m *QualityMeter) LogValue() slog.Value { return printing.LogValue(m) }

// Format prints the text without secrets, for every verb.
func (e *shownError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text) }
