package sqlpooltest

import (
	"context"
	"database/sql/driver"
	"fmt"
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
// At the end of the test the pool is stopped; the test fails if an expectation was not met, or if a
// connection is still held.
//
// The pool never closes a connection of its own accord, because sqlmock would want each close
// announced. Everything else is as in production: acquiring, waiting, draining, holders.
func New(tb testing.TB, options ...func(*sqlpool.DBConfig)) (*sqlpool.DB, sqlmock.Sqlmock) {
	tb.Helper()
	cfg := sqlpool.DBConfig{
		Name: "sqlmock", MaxIdleTime: poolkeeper.Off, MaxLifetime: poolkeeper.Off, KeepAlive: poolkeeper.Off,
	}
	for _, o := range options {
		o(&cfg)
	}
	dsn := fmt.Sprintf("sqlpooltest_%d", sources.Add(1))
	db, mock, err := sqlmock.NewWithDSN(dsn)
	if err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
	pool, err := sqlpool.NewDB(source{db.Driver(), dsn}, cfg)
	if err != nil {
		_ = db.Close()
		tb.Fatalf("sqlpooltest: %v", err)
	}
	tb.Cleanup(func() {
		if err := mock.ExpectationsWereMet(); err != nil {
			tb.Errorf("sqlpooltest: %v", err)
		}
		const others = 2 // the check's connection, and the one sqlmock has opened for itself
		for range pool.Stats().Open + others {
			mock.ExpectClose()
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), stopLimit)
		defer cancel()
		if err := pool.Stop(ctx); err != nil {
			tb.Errorf("sqlpooltest: %v", err)
		}
		_ = db.Close() // sqlmock's own bookkeeping
	})
	if err := pool.Start(tb.Context()); err != nil {
		tb.Fatalf("sqlpooltest: %v", err)
	}
	return pool, mock
}

// source makes a connector of sqlmock's driver.
type source struct {
	driver driver.Driver
	name   string
}

func (s source) Connect(context.Context) (driver.Conn, error) { return s.driver.Open(s.name) }
func (s source) Driver() driver.Driver                        { return s.driver }
