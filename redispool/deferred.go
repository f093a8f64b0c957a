package redispool

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// dialErrors counts the errors that a client of go-redis gets from its dials. After as many as its
// pool is large go-redis refuses all dials from memory, until one that it makes itself succeeds,
// which it tries once a second. How often a server is dialled is the pool's affair: callers, or the
// breaker's trials, find out. So from then on a dial is deferred to the first byte that is written.
// go-redis' own dial writes none, and succeeds.
type dialErrors struct {
	most     int64 // the size of go-redis' pool
	count    atomic.Int64
	greeting *atomic.Int64 // node.greeting; nil: handshakes are not counted
}

// dial dials by open, now or later.
func (e *dialErrors) dial(ctx, life context.Context, limit time.Duration, open dialFunc) (net.Conn, error) {
	if e.count.Load() >= e.most {
		d := &deferred{errs: e, limit: limit, life: life, open: open}
		d.greets(1)
		return d, nil
	}
	c, err := open(ctx)
	if err != nil {
		e.count.Add(1)
	}
	return c, err
}

// deferred is a connection that is dialled when it is first written to. One goroutine uses it until
// then.
type deferred struct {
	net.Conn // nil before

	errs            *dialErrors
	limit           time.Duration   // of the dial
	life            context.Context //nolint:containedctx // of the pool: that of the dial is over by then
	open            dialFunc
	toRead, toWrite time.Time // deadlines set before
	closed          bool
}

// openError is a failure to dial, as go-redis gets it from a write. go-redis unwraps what a
// handshake returns.
type openError struct{ error }

func (e openError) Unwrap() error { return e.error }

// Write dials before the first byte.
func (d *deferred) Write(b []byte) (int, error) {
	if d.Conn != nil {
		return d.Conn.Write(b)
	}
	if d.closed {
		return 0, net.ErrClosed
	}
	defer d.greets(-1)
	ctx, cancel := context.WithTimeout(d.life, d.limit)
	defer cancel()
	c, err := d.open(ctx)
	if err != nil {
		d.closed = true // go-redis closes it
		return 0, openError{err}
	}
	d.errs.count.Store(0)
	d.Conn = c
	if err := c.SetWriteDeadline(d.toWrite); err != nil {
		return 0, err
	}
	if err := c.SetReadDeadline(d.toRead); err != nil {
		return 0, err
	}
	return c.Write(b)
}

// Close of a connection that nothing was written to ends go-redis' refusals.
func (d *deferred) Close() error {
	if d.Conn != nil {
		return d.Conn.Close()
	}
	if !d.closed {
		d.closed = true
		d.greets(-1)
		d.errs.count.Store(0)
	}
	return nil
}

// greets counts the connection among those whose handshake may be under way. Once it is dialled its
// own conn is counted.
func (d *deferred) greets(n int64) {
	if d.errs.greeting != nil {
		d.errs.greeting.Add(n)
	}
}

// Read implements net.Conn.
func (d *deferred) Read(b []byte) (int, error) {
	if d.Conn == nil {
		return 0, net.ErrClosed
	}
	return d.Conn.Read(b)
}

// SetDeadline implements net.Conn.
func (d *deferred) SetDeadline(t time.Time) error {
	if d.Conn == nil {
		d.toRead, d.toWrite = t, t
		return nil
	}
	return d.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (d *deferred) SetReadDeadline(t time.Time) error {
	if d.Conn == nil {
		d.toRead = t
		return nil
	}
	return d.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (d *deferred) SetWriteDeadline(t time.Time) error {
	if d.Conn == nil {
		d.toWrite = t
		return nil
	}
	return d.Conn.SetWriteDeadline(t)
}

// LocalAddr implements net.Conn.
func (d *deferred) LocalAddr() net.Addr {
	if d.Conn == nil {
		return &net.TCPAddr{}
	}
	return d.Conn.LocalAddr()
}

// RemoteAddr implements net.Conn.
func (d *deferred) RemoteAddr() net.Addr {
	if d.Conn == nil {
		return &net.TCPAddr{}
	}
	return d.Conn.RemoteAddr()
}

// SyscallConn implements syscall.Conn.
func (d *deferred) SyscallConn() (syscall.RawConn, error) {
	if c, ok := d.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return blindConn{}, nil
}
