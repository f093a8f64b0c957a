package lifecycle

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// Event is something that happened in a [Registry]: one of the types of this file, always by
// pointer. New fields and types may be added; a switch over them needs a default.
type Event interface {
	// Details are what all events have in common.
	Details() Info
	// String is the event in one sentence that names its component, without its error.
	String() string

	text() string // the sentence without the name, as in the log
	level() slog.Level
	attrs() []slog.Attr
}

// Info is what all events have in common.
type Info struct {
	Time    time.Time
	Name    string        // of the component; empty for an event of the registry
	Phase   string        // of the component, one of the Phase constants; empty if none is meant
	Elapsed time.Duration // how long what has ended took; zero for what begins
	Err     error         // nil if all is well
}

// Details returns i.
func (i Info) Details() Info { return i }

func (i Info) attrs() []slog.Attr { return nil }

type (
	// Starting says that a component's Start is called.
	Starting struct{ Info }
	// Started says that a component is up.
	Started struct{ Info }
	// Failed says that a component did not come up; Phase and Err say why.
	Failed struct {
		Info

		Cancelled bool // because something else has failed, or a shutdown has begun
	}
	// Draining says that a component's Drain is called.
	Draining struct{ Info }
	// Drained says that a component's Drain has returned nil.
	Drained struct{ Info }
	// Stopping says that a component's Stop is called, or its Abort if Phase is PhaseAbort.
	Stopping struct{ Info }
	// Stopped says that a component is down. Err is nil if it stopped cleanly. Elapsed includes
	// Drain.
	Stopped struct {
		Info

		Outcome Outcome
		NeverUp bool // it was never started, or its start failed: what it held was released
	}
	// Aborting says that the time of a component is nearly over, or that the shutdown was cut
	// short, and that its Abort is called.
	Aborting struct {
		Info

		CutShort bool   // the shutdown was cut short; the component does not hang
		Stack    string // what it was doing; empty with CutShort
	}
	// Abandoned says that a component was given up. It may still run.
	Abandoned struct {
		Info

		Stack string // what it was doing
	}
	// Holding says that the time of a component is over, and that what it depends on is held open
	// for it.
	Holding struct {
		Info

		Stack string // what it was doing
	}
	// Held says that a component was not stopped, and is still up after the shutdown.
	Held struct{ Info }
	// Late says that a component which was given up has returned. If it has come up, it is stopped
	// now.
	Late struct{ Info }
	// Died says that a component ended by itself with an error. Elapsed is how long it was up.
	Died struct {
		Info

		Policy DeathPolicy
	}
	// Completed says that a component ended by itself, as it should.
	Completed struct{ Info }
	// Restarting says that a component that died will be started again after Delay, with what
	// depends on it.
	Restarting struct {
		Info

		Attempt int // 1 for the first in a row
		Delay   time.Duration
		With    []string // its dependents, direct or not
	}
	// Refused says that a component was not added, or with a fault; it is returned by Start as
	// well.
	Refused struct{ Info }
	// AllUp says that every component is up: the registry is ready as far as its checks are. After
	// a restart, too.
	AllUp struct {
		Info

		Critical []string // the components the time was made of
	}
	// ShuttingDown says that a shutdown begins. Err is why, nil if Shutdown was simply called. It
	// is a [*SignalError] for a signal, which is no failure.
	ShuttingDown struct {
		Info

		Budget time.Duration // all the time there is
		Delay  time.Duration // the part of it in which everything goes on serving
	}
	// AllDown says that a shutdown has ended. Err is nil if everything is down.
	AllDown struct {
		Info

		Report *Report
	}
	// SignalReceived says that Run received a signal.
	SignalReceived struct {
		Info

		Signal  os.Signal
		Second  bool     // the shutdown that the first one asked for is cut short
		StillUp []string // with Second: what is not down yet
	}
)

const (
	levelDebug = slog.LevelDebug
	levelInfo  = slog.LevelInfo
	levelWarn  = slog.LevelWarn
	levelError = slog.LevelError
)

func (*Starting) level() slog.Level     { return levelDebug }
func (*Started) level() slog.Level      { return levelInfo }
func (*Draining) level() slog.Level     { return levelDebug }
func (*Drained) level() slog.Level      { return levelDebug }
func (*Stopping) level() slog.Level     { return levelDebug }
func (*Aborting) level() slog.Level     { return levelWarn }
func (*Abandoned) level() slog.Level    { return levelError }
func (*Holding) level() slog.Level      { return levelError }
func (*Held) level() slog.Level         { return levelError }
func (*Late) level() slog.Level         { return levelWarn }
func (*Died) level() slog.Level         { return levelError }
func (*Completed) level() slog.Level    { return levelInfo }
func (*Restarting) level() slog.Level   { return levelWarn }
func (*Refused) level() slog.Level      { return levelError }
func (*AllUp) level() slog.Level        { return levelInfo }
func (*ShuttingDown) level() slog.Level { return levelInfo }

func (e *Failed) level() slog.Level {
	if e.Cancelled {
		return levelDebug
	}
	return levelError
}

func (e *Stopped) level() slog.Level {
	if e.NeverUp {
		return errorOr(e.Err, levelDebug)
	}
	return errorOr(e.Err, levelInfo)
}

func (e *AllDown) level() slog.Level { return errorOr(e.Err, levelInfo) }

func (e *SignalReceived) level() slog.Level {
	if e.Second {
		return levelWarn
	}
	return levelInfo
}

func errorOr(err error, level slog.Level) slog.Level {
	if err != nil {
		return levelError
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
func (*ShuttingDown) text() string { return "shutting down" }

func (e *Starting) String() string       { return sentence(e) }
func (e *Started) String() string        { return sentence(e) }
func (e *Failed) String() string         { return sentence(e) }
func (e *Draining) String() string       { return sentence(e) }
func (e *Drained) String() string        { return sentence(e) }
func (e *Stopping) String() string       { return sentence(e) }
func (e *Aborting) String() string       { return sentence(e) }
func (e *Abandoned) String() string      { return sentence(e) }
func (e *Holding) String() string        { return sentence(e) }
func (e *Held) String() string           { return sentence(e) }
func (e *Late) String() string           { return sentence(e) }
func (e *Died) String() string           { return sentence(e) }
func (e *Completed) String() string      { return sentence(e) }
func (e *Restarting) String() string     { return sentence(e) }
func (e *Refused) String() string        { return sentence(e) }
func (e *AllUp) String() string          { return sentence(e) }
func (e *ShuttingDown) String() string   { return sentence(e) }
func (e *Stopped) String() string        { return sentence(e) }
func (e *AllDown) String() string        { return sentence(e) }
func (e *SignalReceived) String() string { return sentence(e) }

// sentence is the text of an event with the name of its component in it.
func sentence(e Event) string {
	name, text := e.Details().Name, e.text()
	if what, ok := strings.CutPrefix(text, "component "); ok && name != "" {
		return strconv.Quote(name) + " " + what
	}
	return text
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

func (e *Stopped) attrs() []slog.Attr   { return []slog.Attr{slog.String("outcome", e.Outcome.String())} }
func (e *Abandoned) attrs() []slog.Attr { return []slog.Attr{slog.String("stack", e.Stack)} }
func (e *Holding) attrs() []slog.Attr   { return []slog.Attr{slog.String("stack", e.Stack)} }
func (e *Died) attrs() []slog.Attr {
	return append([]slog.Attr{slog.String("policy", e.Policy.String())}, whyAttrs(e.Err)...)
}

func (e *Aborting) attrs() []slog.Attr {
	if e.CutShort {
		return nil
	}
	return []slog.Attr{slog.String("stack", e.Stack)}
}

func (e *Failed) attrs() []slog.Attr { return whyAttrs(e.Err) }

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
	return append(attrs, slog.Duration("budget", round(e.Budget)), slog.Duration("drain_delay", e.Delay))
}

// reason is why, in a few words: what failed or died has a line of its own.
func (e *ShuttingDown) reason() string {
	if ce, ok := errors.AsType[*ComponentError](e.Err); ok {
		return ce.Phase + " of " + strconv.Quote(ce.Name) + " failed"
	}
	if text := bare(e.Err); !strings.Contains(text, "\n") {
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
	var errs []error
	for _, e := range parts(err) {
		if _, ok := errors.AsType[*ComponentError](e); !ok {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

func (e *SignalReceived) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("signal", e.Signal.String())}
	if e.Second {
		attrs = append(attrs, slog.Any("still_up", e.StillUp))
	}
	return attrs
}
