package sqlpooltest

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

const stopLimit = 5 * time.Second

//nolint:gochecknoglobals // names of sqlmock's data sources are global too
var sources atomic.Int64

// New returns a started pool whose connections are sqlmock's, with the mock to tell what to expect.
// Functions may change the pool's configuration. At the end of the test the pool is stopped; the
// test fails if an expectation was not met, or if a connection is still held.
//
// The pool neither pings nor closes a connection of its own accord, and its closing is no concern
// of the mock. Everything else is as in production: acquiring, waiting, draining, holders.
func New(tb testing.TB, configure ...func(*sqlpool.DBConfig)) (*sqlpool.DB, sqlmock.Sqlmock) {
	tb.Helper()
	pool, mock := NewUnstarted(tb, configure...)
	start(tb, pool)
	return pool, mock
}

// NewUnstarted is [New] without the start: for a Registry, or for code under test that starts its
// pools itself.
func NewUnstarted(tb testing.TB, configure ...func(*sqlpool.DBConfig)) (*sqlpool.DB, sqlmock.Sqlmock) {
	tb.Helper()
	cfg := sqlpool.DBConfig{
		Name: "sqlmock", MaxIdleTime: poolkeeper.Off, MaxLifetime: poolkeeper.Off, KeepAlive: poolkeeper.Off,
	}
	for _, change := range configure {
		change(&cfg)
	}
	dsn := fmt.Sprintf("sqlpooltest_%d", sources.Add(1))
	db, mock, err := sqlmock.NewWithDSN(dsn)
	if err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
	src := &source{driver: db.Driver(), name: dsn}
	pool, err := sqlpool.NewDB(src, cfg)
	if err != nil {
		_ = db.Close()
		tb.Fatalf("sqlpooltest: %v", err)
	}
	tb.Cleanup(func() {
		if err := mock.ExpectationsWereMet(); err != nil {
			tb.Errorf("sqlpooltest: %v", err)
		}
		stop(tb, pool)
		src.close(mock)
		mock.ExpectClose()
		_ = db.Close() // sqlmock's own bookkeeping
	})
	return pool, mock
}

func start(tb testing.TB, pool interface {
	Start(ctx context.Context) error
},
) {
	tb.Helper()
	if err := pool.Start(tb.Context()); err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
}

func stop(tb testing.TB, pool interface {
	Stop(ctx context.Context) error
},
) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), stopLimit)
	defer cancel()
	if err := pool.Stop(ctx); err != nil {
		tb.Errorf("sqlpooltest: %v", err)
	}
}

// source makes a connector of sqlmock's driver.
type source struct {
	driver driver.Driver
	name   string

	mu     sync.Mutex // guards the following
	opened []driver.Conn
}

// Connect implements driver.Connector.
func (s *source) Connect(context.Context) (driver.Conn, error) {
	c, err := s.driver.Open(s.name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, c)
	if full, ok := c.(mocked); ok {
		return quietConn{full}, nil
	}
	return c, nil
}

// Driver implements driver.Connector.
func (s *source) Driver() driver.Driver { return s.driver }

// close closes every connection for sqlmock, which wants each close announced.
func (s *source) close(mock sqlmock.Sqlmock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.opened {
		mock.ExpectClose()
		_ = c.Close() // sqlmock's own bookkeeping
	}
}

// mocked is a connection of sqlmock's.
type mocked interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.NamedValueChecker
}

// quietConn is a connection whose Close the mock does not hear of.
type quietConn struct{ mocked }

// Close implements driver.Conn.
func (quietConn) Close() error { return nil }
