package health

import (
	"log/slog"
	"time"
)

// Transition is a change of the status of one check or one group.
type Transition struct {
	// Check is the check that changed; empty when a group did.
	Check string
	// Group is the group that changed; empty when a check did.
	Group string
	// From and To are never the same. Changes that were merged show the oldest From and the newest
	// To.
	From, To Status
	// At is when To was reached.
	At time.Time
	// Since is when what led to To began: for a failed check, the first of the failed runs; else
	// At.
	Since time.Time
	// Lasted is how long From was the status; of a failed check, from the first of the failed runs
	// on.
	Lasted time.Duration
	// Failures is how many runs of the check had failed in a row by then.
	Failures int
	// Impact is that of the check.
	Impact Impact
	// Err is why, when To is warn or fail; see [CheckReport.Err]. Nil for a group.
	Err error
	// Fault is Err classified.
	Fault Fault
	// Reason is the line of [GroupReport.Reason] for a group, and the text of Err for a check.
	Reason string
	// CausedBy is as in [CheckReport].
	CausedBy []string
}

// LogValue makes slog print the fields that say something.
func (t Transition) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 10)
	if t.Check != "" {
		attrs = append(attrs, slog.String("check", t.Check))
	}
	if t.Group != "" {
		attrs = append(attrs, slog.String("group", t.Group))
	}
	attrs = append(attrs, slog.String("from", t.From.String()), slog.String("to", t.To.String()))
	if t.Fault.Kind != KindNone {
		attrs = append(attrs, slog.String("kind", string(t.Fault.Kind)))
	}
	if t.Reason != "" {
		attrs = append(attrs, slog.String("reason", t.Reason))
	}
	if t.Fault.Advice != "" {
		attrs = append(attrs, slog.String("advice", t.Fault.Advice))
	}
	if len(t.CausedBy) > 0 {
		attrs = append(attrs, slog.Any("caused_by", t.CausedBy))
	}
	if t.From != StatusUnknown {
		attrs = append(attrs, slog.Duration("lasted", t.Lasted))
	}
	if t.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", t.Failures))
	}
	return slog.GroupValue(attrs...)
}
