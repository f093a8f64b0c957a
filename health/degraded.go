package health

import "errors"

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
