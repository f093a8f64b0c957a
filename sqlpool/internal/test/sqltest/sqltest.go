// Package sqltest has what the tests of sqlpool and of its packages say most about servers:
// connections past the pools, the SQLSTATE of an error, the verdict of a health monitor.
//
// It knows no pool: a test passes the method that it tries.
package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	_ "github.com/go-sql-driver/mysql" // for MySQL
	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// Postgres connects to a PostgreSQL server, past the pools.
func Postgres(tb testing.TB, srv *testserver.Server) *pgx.Conn {
	tb.Helper()
	c, err := pgx.Connect(tb.Context(), srv.URL())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Exec runs one statement on a PostgreSQL server, past the pools.
func Exec(tb testing.TB, srv *testserver.Server, statement string) {
	tb.Helper()
	c := Postgres(tb, srv)
	defer func() { _ = c.Close(context.WithoutCancel(tb.Context())) }()
	if _, err := c.Exec(tb.Context(), statement); err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
}

// MySQL returns a handle to a MySQL server, past the pools. It is closed when the test ends.
func MySQL(tb testing.TB, srv *testserver.Server) *sql.DB {
	tb.Helper()
	db, err := sql.Open("mysql", srv.DSN())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// State returns the SQLSTATE of an error, or "".
func State(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return ""
}

// Verdict returns what a health monitor makes of a pool's check.
func Verdict(tb testing.TB, check func(context.Context) error) (status health.Status, detail error) {
	tb.Helper()
	m := health.New(health.Config{})
	if _, err := m.Register(health.Check{Name: "orders", Probe: check, FailureThreshold: 1, SuccessThreshold: 1}); err != nil {
		tb.Fatal(err)
	}
	if err := m.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = m.Stop(context.WithoutCancel(tb.Context())) }()
	testkit.Eventually(tb, "the check has a result", func() bool {
		c := m.Report().Checks[0]
		status, detail = c.Status, c.Err
		return status != health.StatusUnknown
	})
	return status, detail
}
