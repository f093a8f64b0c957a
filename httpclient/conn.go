package httpclient

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// conn is a connection of a client, below TLS.
type conn struct {
	net.Conn

	set    *connSet
	of     *endpoint
	shared atomic.Bool  // HTTP/2: it carries several requests
	uses   atomic.Int32 // requests on it
	failed atomic.Bool  // a read or a write has
	once   sync.Once
}

// connSet holds the open connections to a host, and counts the closed ones.
type connSet struct {
	inUse  atomic.Int64
	closed [closeReasons]atomic.Uint64
	over   atomic.Bool // the client is being stopped

	mu   sync.Mutex // guards the following
	open map[*conn]struct{}
}

// Why a connection was closed: the index of connSet.closed.
const (
	closedIdle = iota // the transport had no use for it
	closedDead
	closedReload
	closedStop
	closeReasons
)

// reasons are the same, as in Stats.
//
//nolint:gochecknoglobals // a constant table
var reasons = [closeReasons]string{
	poolkeeper.EvictedIdle, poolkeeper.EvictedDead, poolkeeper.EvictedReload, poolkeeper.EvictedClosed,
}

// add makes a socket one of the set. It returns nil if the set is closed.
func (s *connSet) add(sock net.Conn, of *endpoint) *conn {
	c := &conn{Conn: sock, set: s, of: of}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over.Load() {
		return nil
	}
	if s.open == nil {
		s.open = map[*conn]struct{}{}
	}
	s.open[c] = struct{}{}
	return c
}

func (s *connSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// closeAll closes every connection.
func (s *connSet) closeAll() {
	s.over.Store(true)
	s.mu.Lock()
	all := make([]*conn, 0, len(s.open))
	for c := range s.open {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// connOf returns the conn below what the transport uses, nil if it is none of ours.
func connOf(c net.Conn) *conn {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// acquire and release bracket a request on the connection.
func (c *conn) acquire() {
	switch c.uses.Add(1) {
	case 1:
		c.set.inUse.Add(1)
	default:
		c.shared.Store(true)
	}
}

func (c *conn) release() {
	if c.uses.Add(-1) == 0 {
		c.set.inUse.Add(-1)
	}
}

// Read notes an error that ends the connection.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

// Write notes an error that ends the connection.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.note(err)
	}
	return n, err
}

func (c *conn) note(err error) {
	if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) && !isTimeout(err) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.failed.Store(true)
	}
}

// Close takes the connection out of the set.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		s := c.set
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		s.closed[c.closeReason()].Add(1)
	})
	return err
}

func (c *conn) closeReason() int {
	switch {
	case c.set.over.Load():
		return closedStop
	case c.of.replaced.Load():
		return closedReload
	case c.failed.Load() || c.uses.Load() > 0:
		return closedDead
	default:
		return closedIdle
	}
}

// slowDial is how long a dial may take before it is reported to the breaker as slow. So FailFastAfter
// may be shorter than DialTimeout.
const slowDial = 500 * time.Millisecond

// dial opens a connection of the client, within DialTimeout.
func (c *Client) dial(ctx context.Context, of *endpoint, network, addr string) (net.Conn, error) {
	cfg, met := of.cfg, &of.host.met
	if of.host.addr != "" {
		addr = of.host.addr
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	met.dialing.Add(1)
	defer met.dialing.Add(-1)
	began := time.Now()
	slow := time.AfterFunc(slowDial, func() { of.host.breaker.Slow(monotime.Of(began)) })
	defer slow.Stop()
	var sock net.Conn
	err := c.events.Guarded("DialContext", func() (err error) { sock, err = cfg.DialContext(ctx, network, addr); return err })
	if err != nil {
		if context.Cause(ctx) == context.DeadlineExceeded { //nolint:errorlint // ours, and not wrapped
			err = &TimeoutError{Client: of.host.name(), Stage: StageDial, Limit: cfg.DialTimeout, Err: err}
		}
		met.dialFailed(err)
		return nil, err
	}
	met.dials.Add(1)
	met.dial.Record(time.Since(began))
	own := of.host.conns.add(sock, of)
	if own == nil { // Stop came in between
		return nil, errors.Join(poolkeeper.ErrClosed, sock.Close())
	}
	return own, nil
}
