package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/redact"
)

// Status is a verdict. The names are those of application/health+json.
type Status uint8

const (
	// StatusUnknown is the status of a check that has no result yet. It is the zero value. A group
	// is never unknown: with an undecided critical check it is not ready.
	StatusUnknown Status = iota
	// StatusPass is healthy.
	StatusPass
	// StatusWarn works, but: a degraded check, or a group in which a degrading check failed.
	StatusWarn
	// StatusFail does not work.
	StatusFail
)

// String returns "unknown", "pass", "warn" or "fail".
func (s Status) String() string {
	switch s {
	case StatusPass:
		return "pass"
	case StatusWarn:
		return "warn"
	case StatusFail:
		return "fail"
	case StatusUnknown:
	}
	return "unknown"
}

// OK reports whether s is StatusPass or StatusWarn: answered with 200.
func (s Status) OK() bool { return s == StatusPass || s == StatusWarn }

// MarshalText makes JSON print the name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// outcome is what one run of a probe said.
type outcome uint8

const (
	passed   outcome = iota
	degraded         // works, with a reservation: counts as a success
	failed
)

// streak is the state machine of one check: a pure value, without clock and without lock.
//
//	             first result decides
//	unknown ──────────────┬────────────────────┐
//	                      ▼                    ▼
//	              pass ◀──▶ warn             fail
//	                 │  failureThreshold in a row ▲
//	                 └────────────────────────────┘   back: successThreshold in a row
type streak struct {
	status   Status
	contrary int // results in a row that speak against status
	failures int // failures in a row up to now
}

// next returns the state after one more result.
func (s streak) next(o outcome, failureThreshold, successThreshold int) streak {
	up := o != failed
	if up {
		s.failures = 0
	} else {
		s.failures++
	}
	switch {
	case s.status == StatusUnknown, s.status.OK() == up:
		s.contrary = 0
		// A single failure below the threshold leaves pass or warn as it was; the last success says
		// which.
		s.status = statusOf(o)
		return s
	}
	s.contrary++
	threshold := failureThreshold
	if up {
		threshold = successThreshold
	}
	if s.contrary >= threshold {
		s.contrary = 0
		s.status = statusOf(o)
	}
	return s
}

// undecided is whether the last result speaks against the status: worth asking again soon.
func (s streak) undecided() bool { return s.contrary > 0 }

func statusOf(o outcome) Status {
	switch o {
	case passed:
		return StatusPass
	case degraded:
		return StatusWarn
	case failed:
	}
	return StatusFail
}

// verdict is what is known about one check. It is immutable once published.
type verdict struct {
	reason

	status    Status
	since     int64 // clock at which status was reached
	hungSince int64 // clock of the start of the probe that hangs; 0: none
}

// same is whether a page would show the same. The error may be another one with the same text.
func (v *verdict) same(w *verdict) bool {
	return v.status == w.status && v.since == w.since && v.text == w.text && v.fault == w.fault &&
		v.hungSince == w.hungSince
}

// Degraded marks err as a reservation: a probe that returns it works, but the pages warn.
// Degraded(nil) is nil. errors.Is and errors.As see through it.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return &degradedError{err}
}

// degradedError is found anywhere in the chain a probe returns.
type degradedError struct{ err error }

func (e *degradedError) Error() string { return e.err.Error() }
func (e *degradedError) Unwrap() error { return e.err }

func isDegraded(err error) bool {
	_, ok := errors.AsType[*degradedError](err)
	return ok
}

// result is what one run came to.
type result struct {
	reason

	outcome   outcome
	late      bool  // the run took too long
	hungSince int64 // clock of the start of the run that hangs; 0: none
}

// reason is why a verdict is not pass. The zero reason says nothing.
type reason struct {
	err   error // prints text; unwraps to the probe's own error
	text  string
	fault Fault
}

// resultOf judges what a probe returned. It calls methods of err, so it must not be called under a
// lock.
func resultOf(err error) result {
	if err == nil {
		return result{outcome: passed}
	}
	o := failed
	if isDegraded(err) {
		o = degraded
	}
	return result{outcome: o, reason: reasonOf(err)}
}

func reasonOf(err error) reason {
	text := redact.Text(err.Error())
	return reason{err: &shownError{text: text, err: err}, text: text, fault: Classify(err)}
}

// ownFault is an error of this package: its text holds no secret and needs no look at every byte,
// of which there could be as many as there are checks.
type ownFault interface {
	error
	HealthFault() Fault
}

func ownReason(err ownFault) reason {
	return reason{err: err, text: err.Error(), fault: err.HealthFault()}
}

// timedOut is the result of a run that took too long, whatever it returned in the end.
func timedOut(after time.Duration, err error) result {
	e := &timeoutError{after: after, err: err}
	if err == nil {
		return result{outcome: failed, late: true, reason: ownReason(e)}
	}
	return result{outcome: failed, late: true, reason: reasonOf(e)}
}

// hung is the result of a run that could not begin because the one before it never ended.
func hung(started int64, since time.Time) result {
	return result{outcome: failed, late: true, hungSince: started, reason: ownReason(&hungError{since: since})}
}

// shownError prints an error without its secrets.
type shownError struct {
	text string
	err  error
}

func (e *shownError) Error() string { return e.text }
func (e *shownError) Unwrap() error { return e.err }

// Format prints the text without secrets, for every verb.
func (e *shownError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text) }

var errGoexit = errors.New("the probe ended its goroutine (runtime.Goexit)")

// timeoutError is the result of a run that took too long.
type timeoutError struct {
	after time.Duration
	err   error // what the probe returned when its context ended, if it did
}

func (e *timeoutError) Error() string {
	if e.err == nil || errors.Is(e.err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", e.after)
	}
	return fmt.Sprintf("no answer within %v: %v", e.after, e.err)
}

func (e *timeoutError) Unwrap() []error {
	if e.err == nil {
		return []error{context.DeadlineExceeded}
	}
	return []error{context.DeadlineExceeded, e.err}
}

// HealthFault wins over whatever the driver made of the end of its context.
func (e *timeoutError) HealthFault() Fault { return FaultOf(KindTimeout) }

// hungError is the result of a run that could not begin because the last one never ended.
type hungError struct{ since time.Time }

func (e *hungError) Error() string {
	return fmt.Sprintf("the probe hangs since %s and ignores its context", stamp(e.since))
}
func (e *hungError) HealthFault() Fault { return FaultOf(KindHung) }

// staleError is the reason of a verdict past its age.
type staleError struct {
	last   time.Time
	maxAge time.Duration
}

func (e *staleError) Error() string {
	return fmt.Sprintf("no result since %s, longer than %v", stamp(e.last), e.maxAge)
}
func (e *staleError) HealthFault() Fault { return FaultOf(KindStale) }

// panicError is the result of a probe that panicked.
type panicError struct {
	value string // what it panicked with, as text, without secrets
	stack string // for the log only
}

func newPanicError(v any, stack []byte) error {
	return &panicError{value: redact.Text(printed(v)), stack: string(stack)}
}

// printed is fmt.Sprint for a value whose own String or Error method may panic: fmt recovers from
// that.
func printed(v any) string { return fmt.Sprint(v) }

func (e *panicError) Error() string { return "the probe panicked: " + e.value }

// HealthFault is KindPanic.
func (e *panicError) HealthFault() Fault { return FaultOf(KindPanic) }
