package sqlpool

import (
	"context"
	"database/sql/driver"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// guarded runs code of the service, or of a driver, that the pool calls for a purpose of its own. A
// panic is an error, and an event with its stack: on a goroutine of the pool it would end the
// process, and on a caller's it would lose a place in the pool. It must not be called under a lock.
func (c *base) guarded(of string, f func() error) (err error) {
	caught := guard.Catch(func() { err = f() })
	if caught == nil {
		return err
	}
	return c.events.Panicked(of, caught)
}

// ping pings for the pool.
func (n *native) ping(ctx context.Context, c *base) error {
	return c.guarded("the driver's Ping", func() error { return n.Pinger.Ping(ctx) })
}

// closeConn closes conn for the pool. It always ends, because the pool waits for its goroutine.
func (c *base) closeConn(conn driver.Conn, done chan<- error) {
	err := guard.ErrExited
	defer func() { done <- err }()
	err = c.guarded("the driver's Close", conn.Close)
}

// resetSession resets for a checkout. A driver that panics has broken the connection.
func (n *native) resetSession(ctx context.Context, c *base) error {
	return c.unbroken("the driver's ResetSession", func() error { return n.Resetter.ResetSession(ctx) })
}

// valid asks the driver at a check-in.
func (n *native) valid(c *base) (ok bool) {
	if n.Validator == nil {
		return true
	}
	err := c.unbroken("the driver's IsValid", func() error { ok = n.Validator.IsValid(); return nil })
	return ok && err == nil
}

// unbroken is guarded for what breaks a connection by its panic.
func (c *base) unbroken(of string, f func() error) (err error) {
	if caught := guard.Catch(func() { err = f() }); caught != nil {
		_ = c.events.Panicked(of, caught)
		return driver.ErrBadConn
	}
	return err
}
