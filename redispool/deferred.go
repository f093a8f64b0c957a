package redispool

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
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
func (e *dialErrors) dial(ctx context.Context, life context.Context, limit time.Duration, open dialFunc) (net.Conn, error) {
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

// opener opens a client's connections in place of the client's own dialer, which is the user's. It
// is a hook: a hook belongs to one client, while a dialer is part of the options, from which users
// make other clients.
//
// It ignores what comes after it in the chain, so it has to be the last hook. A hook that the user
// adds later comes after it: then the next dial adds another opener, and goes through the user's
// hook to that one.
type opener struct {
	node  *node
	after int64 // node.hooksAdded when it was added; -1 before
}

// addOpener makes a new opener the client's last hook.
func (n *node) addOpener() { n.client.AddHook(&opener{node: n, after: -1}) }

// DialHook opens connections, unless a later opener does. go-redis calls it in the AddHook that adds
// the opener, under its own lock and before it calls earlier hooks, and then for each chain that it
// builds. Only chains that AddHook builds are used for dials.
func (o *opener) DialHook(redis.DialHook) redis.DialHook {
	n := o.node
	if o.after < 0 {
		o.after = n.hooksAdded.Load()
		n.opener.Store(o)
	}
	if n.opener.Load() != o {
		return nil
	}
	return n.pool.open
}

// isLast reports whether no hook was added after the opener.
func (o *opener) isLast() bool {
	return o == nil || o.node.pool.reduced != nil || o.node.hooksAdded.Load() == o.after+1
}

// ProcessHook does nothing.
func (*opener) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

// ProcessPipelineHook does nothing.
func (*opener) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// dialChain returns the client's hooks after the pool's own, with an opener at their end. next is
// what followed when the chain in use was built.
func (h *hook) dialChain(next redis.DialHook) redis.DialHook {
	n := h.node
	for {
		if now := h.dialNext.Load(); now != nil {
			next = *now
		}
		if n.opener.Load().isLast() {
			return next
		}
		n.opening.Lock()
		if !n.opener.Load().isLast() {
			h.reopens.Store(true)
			n.addOpener() // go-redis builds the chain anew, and calls DialHook of h
			h.reopens.Store(false)
		}
		n.opening.Unlock()
	}
}

// open opens a connection as the configuration in effect says.
func (p *Pool) open(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.connect(ctx, p.aim.Load(), network, addr)
}
