package event

import (
	"fmt"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Guarded runs code of the service on a goroutine of its own, waits for it, and returns its error.
// If f panics or ends its goroutine, Guarded emits a Panic event and returns an error that says so.
// It must not be called under a lock.
func (l *Log) Guarded(what string, f func() error) (err error) {
	if failed := l.Panicked(what, guard.Call(func() { err = f() })); failed != nil {
		return failed
	}
	return err
}

// Panicked emits a Panic event for err, which package guard has returned, and returns it with what
// failed. It does nothing if err is nil.
func (l *Log) Panicked(what string, err error) error {
	if err == nil {
		return nil
	}
	l.Emit(OfPanic(what, err))
	return fmt.Errorf("%s: %s: %w", l.pkg, what, err)
}
