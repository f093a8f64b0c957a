// Package guard runs a user's code without letting it end the process, or end or block the goroutine
// that runs it.
package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrExited is the error of code that ended its goroutine, as runtime.Goexit and testing's FailNow
// do.
var ErrExited = errors.New("it called runtime.Goexit")

// Panic is the error of code that panicked.
type Panic struct { //nolint:errname // guard.Panic says it all
	Value any    // what panic was given
	Stack string // where
}

// Error returns the value without the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap returns the value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Call runs f on a goroutine of its own and waits for it. It returns nil, a *Panic or ErrExited.
func Call(f func()) error {
	done := make(chan error, 1)
	// Owner: Call, which waits for it. It ends with f.
	go func() {
		err := ErrExited
		defer func() { done <- err }()
		err = Catch(f)
	}()
	return <-done
}

// Catch runs f on the caller's goroutine and returns nil or a *Panic. A Goexit in f goes on to end
// that goroutine: use Call where it must not.
func Catch(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{Value: v, Stack: string(debug.Stack())}
		}
	}()
	f()
	return nil
}
