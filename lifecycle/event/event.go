package event

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// Event is something that happened in a registry: one of the types of this package, always by
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
	Stack   string        // what a component that hangs was doing; empty for all others
	Err     error         // nil if all is well
}

// Details returns i.
func (i Info) Details() Info { return i }

// The phases of a component's life, as they appear in [Info], in the errors of components and in
// the log.
const (
	PhaseStart   = "start"
	PhaseRun     = "run" // between start and stop: what a component that died was in
	PhaseDrain   = "drain"
	PhaseStop    = "stop"
	PhaseAbort   = "abort"
	PhaseHealth  = "health" // registering its checks
	PhaseRestart = "restart"
)

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

		CutShort bool // the shutdown was cut short; the component does not hang
	}
	// Abandoned says that a component was given up. It may still run.
	Abandoned struct{ Info }
	// Holding says that the time of a component is over, and that what it depends on is held open
	// for it.
	Holding struct{ Info }
	// Held says that a component was not stopped, and is still up after the shutdown.
	Held struct{ Info }
	// Late says that a component which was given up has returned. If it has come up, it is stopped
	// now.
	Late struct{ Info }
	// Died says that a component ended by itself with an error. Elapsed is how long it was up.
	Died struct {
		Info

		Policy string // what follows from it: "shutdown", "ignore" or "restart"
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
	// Pool passes on an event of a component that is a pool. The pool logs it, the registry does
	// not.
	Pool struct {
		Info

		Event poolkeeper.Event
	}
	// Health says that the status of a check has changed. The monitor logs it, the registry does
	// not. Name is the name of the check.
	Health struct {
		Info

		Transition health.Transition
	}
	// AllUp says that every component is up: the registry is ready as far as its checks are. After
	// a restart, too.
	AllUp struct {
		Info

		Critical []string // the components the time was made of
	}
	// ShuttingDown says that a shutdown begins. Err is why, nil if Shutdown was simply called. It
	// is a *lifecycle.SignalError for a signal, which is no failure.
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

func (e *Starting) String() string       { return named(e) }
func (e *Started) String() string        { return named(e) }
func (e *Failed) String() string         { return named(e) }
func (e *Draining) String() string       { return named(e) }
func (e *Drained) String() string        { return named(e) }
func (e *Stopping) String() string       { return named(e) }
func (e *Aborting) String() string       { return named(e) }
func (e *Abandoned) String() string      { return named(e) }
func (e *Holding) String() string        { return named(e) }
func (e *Held) String() string           { return named(e) }
func (e *Late) String() string           { return named(e) }
func (e *Died) String() string           { return named(e) }
func (e *Completed) String() string      { return named(e) }
func (e *Restarting) String() string     { return named(e) }
func (e *Refused) String() string        { return named(e) }
func (e *Pool) String() string           { return strconv.Quote(e.Name) + ": " + e.Event.Text }
func (e *Health) String() string         { return e.text() }
func (e *AllUp) String() string          { return named(e) }
func (e *ShuttingDown) String() string   { return named(e) }
func (e *Stopped) String() string        { return named(e) }
func (e *AllDown) String() string        { return named(e) }
func (e *SignalReceived) String() string { return named(e) }

// named is the text of an event with the name of its component in it.
func named(e Event) string {
	name, text := e.Details().Name, e.text()
	if what, ok := strings.CutPrefix(text, "component "); ok && name != "" {
		return strconv.Quote(name) + " " + what
	}
	return text
}
