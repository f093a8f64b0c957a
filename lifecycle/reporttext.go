package lifecycle

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
)

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
	fmt.Fprintf(&b, "%d of %d components ok, in %s", len(r.Steps)-unclean, len(r.Steps), round(r.Took))
	if r.Delay > 0 {
		fmt.Fprintf(&b, " (%s of it still serving)", round(r.Delay))
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
		took := round(s.Took).String()
		if s.Drain > 0 {
			took += ", draining for " + round(s.Drain).String()
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\tat +%s\tfor %s\n", s.Name, outcome, round(s.Began.Sub(r.Began)), took)
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
	text := s.Outcome.String() + " after " + round(s.Took).String()
	if s.Drain > 0 {
		text += ", draining for " + round(s.Drain).String()
	}
	return text
}

// writeTrouble says what went wrong in a step, and where.
func writeTrouble(b *strings.Builder, s Step) {
	if s.Outcome == OutcomeOK || s.Err == nil {
		return
	}
	cause, stack := s.Err, ""
	if e, ok := errors.AsType[*ComponentError](s.Err); ok {
		cause, stack = fmt.Errorf("%s: %w", e.Phase, e.Err), e.Stack
		if e.Elapsed > 0 {
			cause = fmt.Errorf("%s, after %s: %w", e.Phase, round(e.Elapsed), e.Err)
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
