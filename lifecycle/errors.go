package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

var (
	// ErrStarted is returned by a second Start.
	ErrStarted = errors.New("lifecycle: already started")

	// ErrShutdown is returned by Start when the registry is shut down before or meanwhile.
	ErrShutdown = errors.New("lifecycle: shut down")

	// ErrStartTimeout is wrapped when a component's Start did not return in time.
	ErrStartTimeout = errors.New("lifecycle: did not start in time")

	// ErrStopTimeout is wrapped when a component did not stop in time: it was aborted, or given up
	// and may still run. A component that has to return from Stop although something of it still
	// runs says so by an error that wraps it.
	ErrStopTimeout = errors.New("lifecycle: did not stop in time")

	// ErrHeld is wrapped when a component was not stopped because one that depends on it hangs (see
	// [HangPolicyHold]), or because no time was left for it.
	ErrHeld = errors.New("lifecycle: not stopped")

	// ErrAborted is wrapped by the error of a shutdown that was cut short, by a second signal or
	// because its context was cancelled.
	ErrAborted = errors.New("lifecycle: shutdown cut short")

	// errGoexit is wrapped when a component ended its goroutine with runtime.Goexit instead of
	// returning.
	errGoexit = errors.New("lifecycle: called runtime.Goexit")

	// errFrozen is wrapped when a component is added after the registry was started or shut down.
	errFrozen = errors.New("lifecycle: added after Start")

	// errName is wrapped when a component's name is empty, too long or cannot be printed.
	errName = errors.New("lifecycle: bad name")

	// errNilComponent is wrapped when a component is nil.
	errNilComponent = errors.New("lifecycle: nil component")
)

// ComponentError says which component failed, in which phase and after how long.
type ComponentError struct {
	Name    string        // the component
	Phase   string        // one of the Phase constants
	Elapsed time.Duration // from the begin of the phase
	// Stack is what the component's goroutines were doing when its time was over, those it started
	// included; see [goroutine labels]. Empty for a component that returned in time.
	//
	// [goroutine labels]: https://pkg.go.dev/runtime/pprof#Do
	Stack string
	Err   error // what it returned, a [*PanicError], or one of the sentinels
}

// Error names the component, the phase, the time, the cause and, if the component hung, where.
func (e *ComponentError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lifecycle: %s of %q failed", e.Phase, e.Name)
	if e.Elapsed > 0 {
		fmt.Fprintf(&b, " after %s", printing.Round(e.Elapsed))
	}
	b.WriteString(": " + bare(e.Err))
	if e.Stack != "" {
		b.WriteString(", at " + site(e.Stack))
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ComponentError) Unwrap() error { return e.Err }

// Details returns the fields of e as events have them.
func (e *ComponentError) Details() event.Info {
	return event.Info{Name: e.Name, Phase: e.Phase, Elapsed: e.Elapsed, Stack: e.Stack, Err: e.Err}
}

// PanicError is a recovered panic.
type PanicError struct {
	Value any    // what was passed to panic
	Stack string // where, one "function (file:line)" per line, innermost first
}

// Error prints the value and the place of the panic.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic: %v, at %s", e.Value, site(e.Stack))
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// cycleError is a fault of the graph: every component of Path depends on the next, the last on the
// first.
type cycleError struct{ Path []string }

func (e *cycleError) Error() string {
	return "lifecycle: dependency cycle: " + quoteJoin(append(slices.Clip(e.Path), e.Path[0]), " → ")
}

// missingDependencyError is a fault of the graph: a component depends on one that was never added.
type missingDependencyError struct {
	Name       string // the component that depends
	Dependency string // on what
	Nearest    string // the name most like it; empty if none is
}

func (e *missingDependencyError) Error() string {
	s := fmt.Sprintf("lifecycle: %q depends on %q, which was not added", e.Name, e.Dependency)
	if e.Nearest != "" {
		s += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return s
}

// duplicateError is a fault of the graph: two components have the same name.
type duplicateError struct{ Name string }

func (e *duplicateError) Error() string {
	return fmt.Sprintf("lifecycle: %q was added twice", e.Name)
}

// optionError is a fault of the graph or the [Config]: an option that makes no sense.
type optionError struct {
	Name   string // the component; empty for a field of Config
	Option string
	Reason string
	Err    error // the cause, if another package found the fault
}

func (e *optionError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("lifecycle: Config.%s: %s", e.Option, e.Reason)
	}
	return fmt.Sprintf("lifecycle: %q: %s: %s", e.Name, e.Option, e.Reason)
}

// Unwrap returns Err.
func (e *optionError) Unwrap() error { return e.Err }

// addError says why a component was not added: one of the sentinels.
type addError struct {
	name string
	err  error
	more string
}

func (e *addError) Error() string {
	return fmt.Sprintf("lifecycle: add %q: %s%s", e.name, bare(e.err), e.more)
}
func (e *addError) Unwrap() error { return e.err }

// SignalError is the cause of a shutdown that a signal asked for.
type SignalError struct{ Signal os.Signal }

func (e *SignalError) Error() string { return "lifecycle: received " + e.Signal.String() }

// cutAbortError is the error of a component that was aborted because the shutdown was cut short: it
// had no time to hang.
type cutAbortError struct{}

var errCutAbort = cutAbortError{}

func (cutAbortError) Error() string   { return "aborted, because the shutdown was cut short" }
func (cutAbortError) Unwrap() []error { return []error{ErrAborted, ErrStopTimeout} }

// timeoutError joins one of our sentinels with context.DeadlineExceeded, so that callers can ask
// for either.
type timeoutError struct{ sentinel error }

func (e timeoutError) Error() string   { return e.sentinel.Error() }
func (e timeoutError) Unwrap() []error { return []error{e.sentinel, context.DeadlineExceeded} }

// cutShortError says that a shutdown was cut short, why, and what was still up.
type cutShortError struct {
	cause error
	up    []string
}

func (e *cutShortError) Error() string {
	return fmt.Sprintf("%v: %s; still up: %s", ErrAborted, bare(e.cause), listed(e.up))
}
func (e *cutShortError) Unwrap() []error { return []error{ErrAborted, e.cause} }

// listed prints names, and only the number of those after the first twenty.
func listed(names []string) string {
	const most = 20
	if len(names) <= most {
		return quoteJoin(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", quoteJoin(names[:most], ", "), len(names)-most)
}

func quoteJoin(names []string, sep string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, sep)
}

// bare is the text of err without our own prefix, to be put behind another of ours.
func bare(err error) string {
	if err == nil {
		return "no error"
	}
	return strings.TrimPrefix(err.Error(), "lifecycle: ")
}
