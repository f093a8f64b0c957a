package sqlpooltest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// memoryAddr is what a client of a server in memory has in its URL. Nothing listens there.
const memoryAddr = "127.0.0.1:5432"

// ServePostgresInMemory starts a fake PostgreSQL server without a port. It is for tests in a
// testing/synctest bubble. Its connections are in memory, so a goroutine that waits on one is
// durably blocked, and time goes on. Clients connect with [PostgresServer.Dial]; the rest is as
// with [ServePostgres].
func ServePostgresInMemory(tb testing.TB) *PostgresServer {
	tb.Helper()
	s := &PostgresServer{tb: tb, addr: memoryAddr, memory: true, sessions: make(map[*session]struct{})}
	tb.Cleanup(s.stop)
	return s
}

// NewPostgresInMemory is [NewPostgres] on a server as [ServePostgresInMemory] starts it.
func NewPostgresInMemory(
	tb testing.TB, configure ...func(*sqlpool.PostgresConfig),
) (*sqlpool.Postgres, *PostgresServer) {
	tb.Helper()
	pool, s := NewUnstartedPostgresInMemory(tb, configure...)
	start(tb, pool)
	return pool, s
}

// NewUnstartedPostgresInMemory is [NewUnstartedPostgres] on a server as [ServePostgresInMemory]
// starts it.
func NewUnstartedPostgresInMemory(
	tb testing.TB, configure ...func(*sqlpool.PostgresConfig),
) (*sqlpool.Postgres, *PostgresServer) {
	tb.Helper()
	s := ServePostgresInMemory(tb)
	return poolOn(tb, s, append(configure, s.dialled)), s
}

// dialled makes a pool connect in memory, whatever else is configured.
func (s *PostgresServer) dialled(c *sqlpool.PostgresConfig) {
	user := c.Configure
	c.Configure = func(native *pgxpool.Config) error {
		native.ConnConfig.DialFunc = s.Dial
		if user != nil {
			return user(native)
		}
		return nil
	}
}

// Dial connects to the server, whatever address it is given. It is for pgx's DialFunc: by it one
// client can reach several servers, or one in memory.
func (s *PostgresServer) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if !s.memory {
		return new(net.Dialer).DialContext(ctx, network, s.addr)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs := pipe()
	if !s.talk(ours) { //nolint:contextcheck // a session outlives its dial
		return nil, &net.OpError{Op: "dial", Net: network, Addr: theirs.RemoteAddr(), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return theirs, nil
}

// pipe returns the two ends of a connection in memory. As on a socket, sent bytes wait to be read,
// also after the sender has closed its end. Bytes sent to a closed end are lost without an error. A
// write never waits, so a write deadline never passes.
func pipe() (a, b *memoryConn) {
	up, down := newStream(), newStream()
	return &memoryConn{in: up, out: down}, &memoryConn{in: down, out: up}
}

// memoryConn is one end.
type memoryConn struct{ in, out *stream }

func (c *memoryConn) Read(b []byte) (int, error)         { return c.in.read(b) }
func (c *memoryConn) Write(b []byte) (int, error)        { return c.out.write(b) }
func (c *memoryConn) LocalAddr() net.Addr                { return memoryName{} }
func (c *memoryConn) RemoteAddr() net.Addr               { return memoryName{} }
func (c *memoryConn) SetDeadline(t time.Time) error      { return c.in.setDeadline(t) }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(t) }
func (c *memoryConn) SetWriteDeadline(_ time.Time) error { return nil }

func (c *memoryConn) Close() error {
	c.out.end(false)
	c.in.end(true)
	return nil
}

type memoryName struct{}

func (memoryName) Network() string { return "memory" }
func (memoryName) String() string  { return memoryAddr }

// stream is one direction of a connection.
type stream struct {
	changed *sync.Cond // on mu

	mu         sync.Mutex // guards the following
	waiting    []byte
	sent, gone bool        // the writer has closed; the reader has
	late       bool        // the reader's deadline has passed
	timer      *time.Timer // of the deadline; nil: none
}

func newStream() *stream {
	s := new(stream)
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case s.late:
			return 0, os.ErrDeadlineExceeded
		case len(s.waiting) > 0:
			n := copy(b, s.waiting)
			s.waiting = s.waiting[n:]
			return n, nil
		case s.sent:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent {
		return 0, net.ErrClosed
	}
	if !s.gone {
		s.waiting = append(s.waiting, b...)
		s.changed.Broadcast()
	}
	return len(b), nil
}

// end is the writer's close, or the reader's.
func (s *stream) end(reader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reader {
		s.gone, s.waiting = true, nil
		s.stopLocked()
	} else {
		s.sent = true
	}
	s.changed.Broadcast()
}

func (s *stream) stopLocked() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *stream) setDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return net.ErrClosed
	}
	s.stopLocked()
	s.late = false
	if at.IsZero() {
		return nil
	}
	if d := time.Until(at); d > 0 {
		var own *time.Timer
		own = time.AfterFunc(d, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.timer == own { // else another deadline was set meanwhile
				s.late = true
				s.changed.Broadcast()
			}
		})
		s.timer = own
		return nil
	}
	s.late = true
	s.changed.Broadcast()
	return nil
}
