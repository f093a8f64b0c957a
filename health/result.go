package health

import (
	"context"
	"errors"
	"fmt"
	"time"
)

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
	text := redact(err.Error())
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
	return &panicError{value: redact(printed(v)), stack: string(stack)}
}

// printed is fmt.Sprint for a value whose own String or Error method may panic: fmt recovers from
// that.
func printed(v any) string { return fmt.Sprint(v) }

func (e *panicError) Error() string { return "the probe panicked: " + e.value }

// HealthFault is KindPanic.
func (e *panicError) HealthFault() Fault { return FaultOf(KindPanic) }
