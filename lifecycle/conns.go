package lifecycle

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/poolkeeper/poolkeeper"
)

// errStreamDrained is the cause with which the contexts of streams end.
var errStreamDrained = fmt.Errorf("lifecycle: server is shutting down: %w", poolkeeper.ErrDraining)

// connSet is the open connections of a server. http.Server forgets a connection that is hijacked;
// this does not.
type connSet struct {
	mu       sync.Mutex // guards the following
	open     map[*membership]net.Conn
	hijacked int           // of open
	empty    chan struct{} // closed when open becomes empty; nil while no goroutine waits
}

func (s *connSet) add(c net.Conn) *membership {
	m := &membership{set: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*membership]net.Conn)
	}
	s.open[m] = c
	return m
}

// membership is a connection's place in a set.
type membership struct {
	set      *connSet
	hijacked bool // guarded by the set's mutex
}

// place returns m: what is accepted has it by embedding.
func (m *membership) place() *membership { return m }

// noteHijacked takes note that a handler has taken c over.
func (s *connSet) noteHijacked(c net.Conn) {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok { // below TLS
		c = secure.NetConn()
	}
	in, ok := c.(interface{ place() *membership })
	if !ok {
		return
	}
	m := in.place()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[m]; open && !m.hijacked {
		m.hijacked = true
		s.hijacked++
	}
}

// end takes the connection out of the set, and returns err.
func (m *membership) end(err error) error {
	s := m.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[m]; open && m.hijacked {
		s.hijacked--
	}
	delete(s.open, m)
	if len(s.open) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
	return err
}

// len returns how many connections are open, and how many of them are hijacked.
func (s *connSet) len() (open, hijacked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.hijacked
}

// wait returns when no connection is open.
func (s *connSet) wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.open) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.open))
	for _, c := range s.open {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// trackedListener puts what it accepts into a set.
type trackedListener struct {
	net.Listener

	conns *connSet
}

// Accept returns a connection that leaves the set when it is closed. It keeps the methods of TCP
// and Unix connections, which http.Server and hijacking handlers look for (ReadFrom, CloseWrite).
func (l *trackedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m := l.conns.add(c)
	switch c := c.(type) {
	case *net.TCPConn:
		return &trackedTCP{c, m}, nil
	case *net.UnixConn:
		return &trackedUnix{c, m}, nil
	}
	return &trackedConn{c, m}, nil
}

type (
	trackedConn struct {
		net.Conn
		*membership
	}
	trackedTCP struct {
		*net.TCPConn
		*membership
	}
	trackedUnix struct {
		*net.UnixConn
		*membership
	}
)

// Close closes the connection and takes it out of the set.
func (c *trackedConn) Close() error { return c.end(c.Conn.Close()) }

// Close closes the connection and takes it out of the set.
func (c *trackedTCP) Close() error { return c.end(c.TCPConn.Close()) }

// Close closes the connection and takes it out of the set.
func (c *trackedUnix) Close() error { return c.end(c.UnixConn.Close()) }
