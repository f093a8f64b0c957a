package sqlpool

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// callback runs a function of the user's on a goroutine that is not the caller's. A panic there would end the process, and
// a Goexit lose a connection's place for ever: both become an error and a line in the log.
func (c *core) callback(name string, f func()) error {
	return c.panicked(name, guard.Call(f))
}

// panicked says that a function of the user's has panicked, or ended its goroutine. It does nothing if err is nil.
func (c *core) panicked(name string, err error) error {
	if err == nil {
		return nil
	}
	e := event.Event{
		Kind: event.Panic, Level: slog.LevelError, Text: "a function of the service failed on a goroutine of the pool",
		Err: err, Attrs: []slog.Attr{slog.String("function", name)},
	}
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		e.Attrs = append(e.Attrs, slog.String("stack", p.Stack))
	}
	c.events.Emit(e)
	return fmt.Errorf("sqlpool: %s: %w", name, err)
}
