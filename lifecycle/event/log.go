package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/poolkeeper/poolkeeper/health"
	poolevent "github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// Log writes e to logger as the registry does: one line, with all that e tells as attributes. It
// runs code of the logger's handler and of the errors in e, which may panic.
func Log(ctx context.Context, logger *slog.Logger, e Event) {
	if level := e.level(); logger.Enabled(ctx, level) {
		logger.LogAttrs(ctx, level, e.text(), attrsOf(e)...)
	}
}

// Level returns the level at which the registry or the pool logs e.
func Level(e Event) slog.Level { return e.level() }

func attrsOf(e Event) []slog.Attr {
	i := e.Details()
	attrs := make([]slog.Attr, 0, 8)
	if i.Name != "" {
		attrs = append(attrs, slog.String("component", i.Name))
	}
	if i.Phase != "" {
		attrs = append(attrs, slog.String("phase", i.Phase))
	}
	if i.Elapsed != 0 {
		attrs = append(attrs, slog.Duration("elapsed", printing.Round(i.Elapsed)))
	}
	attrs = append(attrs, e.attrs()...)
	switch e.(type) {
	case *ShuttingDown, *AllDown, // what went wrong has a line of its own
		*Pool, *Health: // their attributes include it
		return attrs
	}
	if i.Err != nil {
		attrs = append(attrs, slog.Any("error", i.Err))
	}
	return attrs
}

func (*Starting) level() slog.Level     { return slog.LevelDebug }
func (*Started) level() slog.Level      { return slog.LevelInfo }
func (*Draining) level() slog.Level     { return slog.LevelDebug }
func (*Drained) level() slog.Level      { return slog.LevelDebug }
func (*Stopping) level() slog.Level     { return slog.LevelDebug }
func (*Aborting) level() slog.Level     { return slog.LevelWarn }
func (*Abandoned) level() slog.Level    { return slog.LevelError }
func (*Holding) level() slog.Level      { return slog.LevelError }
func (*Held) level() slog.Level         { return slog.LevelError }
func (*Late) level() slog.Level         { return slog.LevelWarn }
func (*Died) level() slog.Level         { return slog.LevelError }
func (*Completed) level() slog.Level    { return slog.LevelInfo }
func (*Restarting) level() slog.Level   { return slog.LevelWarn }
func (*Refused) level() slog.Level      { return slog.LevelError }
func (*AllUp) level() slog.Level        { return slog.LevelInfo }
func (e *Pool) level() slog.Level       { return e.Event.Level }
func (*ShuttingDown) level() slog.Level { return slog.LevelInfo }

func (e *Failed) level() slog.Level {
	if e.Cancelled {
		return slog.LevelDebug
	}
	return slog.LevelError
}

func (e *Stopped) level() slog.Level {
	if e.NeverUp {
		return errorOr(e.Err, slog.LevelDebug)
	}
	return errorOr(e.Err, slog.LevelInfo)
}

func (e *Health) level() slog.Level {
	switch e.Transition.To {
	case health.StatusFail, health.StatusWarn:
		return slog.LevelWarn
	case health.StatusUnknown, health.StatusPass:
	}
	return slog.LevelInfo
}

func (e *AllDown) level() slog.Level { return errorOr(e.Err, slog.LevelInfo) }

func (e *SignalReceived) level() slog.Level {
	if e.Second {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func errorOr(err error, level slog.Level) slog.Level {
	if err != nil {
		return slog.LevelError
	}
	return level
}

func (*Starting) text() string     { return "component is starting" }
func (*Started) text() string      { return "component is up" }
func (*Failed) text() string       { return "component did not come up" }
func (*Draining) text() string     { return "component is draining" }
func (*Drained) text() string      { return "component has drained" }
func (*Stopping) text() string     { return "component is stopping" }
func (*Abandoned) text() string    { return "component hangs and was given up" }
func (*Holding) text() string      { return "component hangs, what it depends on is held open" }
func (*Held) text() string         { return "component was not stopped" }
func (*Late) text() string         { return "component has returned after it was given up" }
func (*Died) text() string         { return "component died" }
func (*Completed) text() string    { return "component has completed" }
func (*Restarting) text() string   { return "component will be restarted" }
func (*Refused) text() string      { return "component was refused" }
func (*AllUp) text() string        { return "all components are up" }
func (e *Pool) text() string       { return e.Event.Text }
func (*ShuttingDown) text() string { return "shutting down" }

func (e *Health) text() string {
	return fmt.Sprintf("check %q: %s → %s", e.Name, e.Transition.From, e.Transition.To)
}

func (e *Stopped) text() string {
	if e.NeverUp && e.Err == nil {
		return "component was never up and is released"
	}
	switch e.Outcome {
	case OutcomeAborted:
		return "component was aborted"
	case OutcomeFailed:
		return "component stopped with an error"
	case OutcomeNone, OutcomeOK, OutcomeAbandoned, OutcomeHeld:
	}
	return "component has stopped"
}

func (e *Aborting) text() string {
	if e.CutShort {
		return "component is aborted, because the shutdown was cut short"
	}
	return "component is out of time and is aborted"
}

func (e *AllDown) text() string {
	if e.Err != nil {
		return "shutdown ended with errors"
	}
	return "all components are down"
}

func (e *SignalReceived) text() string {
	if e.Second {
		return "second signal, aborting what is still up"
	}
	return "received a signal"
}

func (i Info) attrs() []slog.Attr { return nil }

func (e *Stopped) attrs() []slog.Attr   { return []slog.Attr{slog.String("outcome", e.Outcome.String())} }
func (e *Abandoned) attrs() []slog.Attr { return []slog.Attr{slog.String("stack", e.Stack)} }
func (e *Holding) attrs() []slog.Attr   { return []slog.Attr{slog.String("stack", e.Stack)} }
func (e *Died) attrs() []slog.Attr {
	return append([]slog.Attr{slog.String("policy", e.Policy)}, whyAttrs(e.Err)...)
}

func (e *Aborting) attrs() []slog.Attr {
	if e.CutShort {
		return nil
	}
	return []slog.Attr{slog.String("stack", e.Stack)}
}

func (e *Failed) attrs() []slog.Attr { return whyAttrs(e.Err) }

func (e *Pool) attrs() []slog.Attr { return poolevent.Attrs(e.Event) }

func (e *Health) attrs() []slog.Attr { return e.Transition.LogValue().Group() }

// whyAttrs are the class of an error, and what to look at first unless the error says so itself.
func whyAttrs(err error) []slog.Attr {
	fault := health.Classify(err)
	if fault.Kind == health.KindNone || fault.Kind == health.KindUnknown {
		return nil
	}
	attrs := []slog.Attr{slog.String("cause", string(fault.Kind))}
	if fault.Advice != "" && !strings.Contains(err.Error(), fault.Advice) {
		attrs = append(attrs, slog.String("advice", fault.Advice))
	}
	return attrs
}

func (e *AllUp) attrs() []slog.Attr { return []slog.Attr{slog.Any("critical_path", e.Critical)} }

func (e *Restarting) attrs() []slog.Attr {
	return []slog.Attr{
		slog.Int("attempt", e.Attempt), slog.Duration("delay", e.Delay), slog.Any("with", e.With),
	}
}

func (e *ShuttingDown) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 3)
	if e.Err != nil {
		attrs = append(attrs, slog.String("reason", e.reason()))
	}
	return append(attrs, slog.Duration("budget", printing.Round(e.Budget)), slog.Duration("drain_delay", e.Delay))
}

// reason is why, in a few words: what failed or died has a line of its own.
func (e *ShuttingDown) reason() string {
	if failed, ok := errors.AsType[componentError](e.Err); ok {
		i := failed.Details()
		return i.Phase + " of " + strconv.Quote(i.Name) + " failed"
	}
	if text := strings.TrimPrefix(e.Err.Error(), "lifecycle: "); !strings.Contains(text, "\n") {
		return text
	}
	return "start failed" // of several faults
}

func (e *AllDown) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.Any("critical_path", e.Report.Critical)}
	if e.Err == nil {
		return attrs
	}
	attrs = append(attrs, slog.Any("report", e.Report))
	if err := unsaid(e.Err); err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	return attrs
}

// unsaid is what of the error of a shutdown is not about a single component, whose events have said
// the rest.
func unsaid(err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var errs []error
	for _, e := range all {
		if _, ok := errors.AsType[componentError](e); !ok {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// componentError is a *lifecycle.ComponentError.
type componentError interface {
	error
	Details() Info
}

func (e *SignalReceived) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("signal", e.Signal.String())}
	if e.Second {
		attrs = append(attrs, slog.Any("still_up", e.StillUp))
	}
	return attrs
}
