package event

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
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

// stackLines bounds how much of a hung component's stack the text shows; the error has all of it.
const stackLines = 6

// String is the report as a page for a person: one line per component in the order in which they
// ended, what went wrong with each that did not end cleanly and where it was then, and what the
// time was made of.
func (r *Report) String() string {
	var b strings.Builder
	unclean := 0
	for _, s := range r.Steps {
		if s.Outcome != OutcomeOK {
			unclean++
		}
	}
	fmt.Fprintf(&b, "%d of %d components ok, in %s", len(r.Steps)-unclean, len(r.Steps), printing.Round(r.Took))
	if r.Delay > 0 {
		fmt.Fprintf(&b, " (%s of it still serving)", printing.Round(r.Delay))
	}
	b.WriteString("\n\n")
	r.writeSteps(&b)
	for _, s := range r.Steps {
		writeTrouble(&b, s)
	}
	if len(r.Critical) > 0 {
		fmt.Fprintf(&b, "\nThe time went into: %s\n", strings.Join(r.Critical, " → "))
	}
	return b.String()
}

func (r *Report) writeSteps(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	// Writing cannot fail: it goes to a strings.Builder.
	for _, s := range r.Steps {
		outcome := s.Outcome.String()
		if s.Outcome != OutcomeOK {
			outcome = strings.ToUpper(outcome)
		}
		if s.Began.IsZero() {
			_, _ = fmt.Fprintf(w, "  %s\t%s\tits turn never came\n", s.Name, outcome)
			continue
		}
		took := printing.Round(s.Took).String()
		if s.Drain > 0 {
			took += ", draining for " + printing.Round(s.Drain).String()
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\tat +%s\tfor %s\n", s.Name, outcome, printing.Round(s.Began.Sub(r.Began)), took)
	}
	_ = w.Flush()
}

// reportedSteps bounds how many components LogValue lists.
const reportedSteps = 20

// LogValue makes slog print what String does, without stacks: how many components are down as they
// should, and how each that is not ended. It lists the first twenty.
func (r *Report) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Int("components", len(r.Steps))}
	ok, more := 0, 0
	for _, s := range r.Steps {
		switch {
		case s.Outcome == OutcomeOK:
			ok++
		case len(attrs) > reportedSteps:
			more++
		default:
			attrs = append(attrs, slog.String(s.Name, s.summary()))
		}
	}
	attrs = slices.Insert(attrs, 1, slog.Int("ok", ok))
	if more > 0 {
		attrs = append(attrs, slog.Int("more", more))
	}
	return slog.GroupValue(attrs...)
}

// summary is how a step ended and how long it took.
func (s Step) summary() string {
	if s.Began.IsZero() {
		return s.Outcome.String() + ", its turn never came"
	}
	text := s.Outcome.String() + " after " + printing.Round(s.Took).String()
	if s.Drain > 0 {
		text += ", draining for " + printing.Round(s.Drain).String()
	}
	return text
}

// writeTrouble says what went wrong in a step, and where.
func writeTrouble(b *strings.Builder, s Step) {
	if s.Outcome == OutcomeOK || s.Err == nil {
		return
	}
	cause, stack := s.Err, ""
	if failed, ok := errors.AsType[componentError](s.Err); ok {
		i := failed.Details()
		cause, stack = fmt.Errorf("%s: %w", i.Phase, i.Err), i.Stack
		if i.Elapsed > 0 {
			cause = fmt.Errorf("%s, after %s: %w", i.Phase, printing.Round(i.Elapsed), i.Err)
		}
	}
	fmt.Fprintf(b, "\n%s: %v\n", s.Name, cause)
	if stack == "" {
		return
	}
	lines := strings.Split(stack, "\n")
	for i, line := range lines {
		if i == stackLines {
			fmt.Fprintf(b, "    … %d more lines in the error\n", len(lines)-i)
			break
		}
		b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
}
