package fleet

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Connect opens a connection for database/sql: Server is a driver.Connector.
func (s *Server) Connect(ctx context.Context) (driver.Conn, error) {
	one, err := s.login(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &conn{one}, nil
}

// Driver returns a driver that opens nothing.
func (*Server) Driver() driver.Driver { return noDriver{} }

type noDriver struct{}

func (noDriver) Open(string) (driver.Conn, error) { return nil, errUnsupported }

var errUnsupported = errors.New("fleet: only ExecContext and Ping are supported")

// conn is a connection of database/sql.
type conn struct{ *session }

func (c *conn) Ping(ctx context.Context) error { return c.hold(ctx, c.server.RoundTrip) }

// ExecContext holds the connection for as long as query says.
func (c *conn) ExecContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	d, err := time.ParseDuration(query)
	if err != nil {
		return nil, err
	}
	return driver.ResultNoRows, c.hold(ctx, d)
}

func (c *conn) hold(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.over:
		return &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
}

// IsValid reports whether the connection may be used again, as drivers that keep the error of their
// last read do.
func (c *conn) IsValid() bool {
	select {
	case <-c.over:
		return false
	default:
		return true
	}
}

func (c *conn) Close() error { c.end(); return nil }

func (*conn) Prepare(string) (driver.Stmt, error) { return nil, errUnsupported }
func (*conn) Begin() (driver.Tx, error)           { return nil, errUnsupported }
