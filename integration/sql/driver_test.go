package integration_test

import (
	"context"
	"database/sql/driver"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeDriver is a driver whose connections have every optional interface (full), or none but what
// tests add.
type fakeDriver struct {
	conn func(*fakeDriver) driver.Conn

	mu    sync.Mutex // guards the following
	calls []string
}

// Connect opens a connection.
func (d *fakeDriver) Connect(context.Context) (driver.Conn, error) {
	d.note("Connect")
	return d.conn(d), nil
}

// Driver is asked by database/sql.
func (d *fakeDriver) Driver() driver.Driver { return d }

// Open is part of driver.Driver.
func (d *fakeDriver) Open(string) (driver.Conn, error) { return d.Connect(context.Background()) }

// OpenConnector is what otelsql calls where it wraps the driver itself.
func (d *fakeDriver) OpenConnector(string) (driver.Connector, error) { return d, nil }

func (d *fakeDriver) note(call string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, call)
}

func (d *fakeDriver) did() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(slices.Clone(d.calls), " ")
}

// plainConn has what a driver must have.
type plainConn struct{ d *fakeDriver }

func (c plainConn) Prepare(string) (driver.Stmt, error) {
	c.d.note("Prepare")
	return plainStmt(c), nil
}

func (c plainConn) Close() error {
	c.d.note("Close")
	return nil
}
func (c plainConn) Begin() (driver.Tx, error) { return plainTx{}, nil }

type plainTx struct{}

func (plainTx) Commit() error   { return nil }
func (plainTx) Rollback() error { return nil }

type plainStmt struct{ d *fakeDriver }

func (plainStmt) Close() error  { return nil }
func (plainStmt) NumInput() int { return -1 }
func (s plainStmt) Exec(args []driver.Value) (driver.Result, error) {
	for _, a := range args {
		if text, ok := a.(string); ok {
			s.d.note("Stmt.Exec(" + text + ")")
			return driver.RowsAffected(1), nil
		}
	}
	s.d.note("Stmt.Exec")
	return driver.RowsAffected(1), nil
}
func (plainStmt) Query([]driver.Value) (driver.Rows, error) { return plainRows{}, nil }

type plainRows struct{}

func (plainRows) Columns() []string         { return []string{"column"} }
func (plainRows) Close() error              { return nil }
func (plainRows) Next([]driver.Value) error { return io.EOF }

// oldConn has the interface for statements without preparation that came before contexts.
type oldConn struct{ plainConn }

func (c oldConn) Exec(string, []driver.Value) (driver.Result, error) {
	c.d.note("Exec")
	return driver.RowsAffected(1), nil
}

// convertingConn has statements that convert their arguments.
type convertingConn struct{ plainConn }

func (c convertingConn) Prepare(string) (driver.Stmt, error) {
	return convertingStmt{plainStmt(c.plainConn)}, nil
}

type convertingStmt struct{ plainStmt }

func (convertingStmt) ColumnConverter(int) driver.ValueConverter { return converter{} }

type converter struct{}

// ConvertValue leaves a mark.
func (converter) ConvertValue(any) (driver.Value, error) { return "converted", nil }

// fullConn has everything.
type fullConn struct{ plainConn }

func (c fullConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return plainTx{}, nil
}

func (c fullConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return fullStmt{convertingStmt{plainStmt(c.plainConn)}}, nil
}

func (c fullConn) Exec(string, []driver.Value) (driver.Result, error) {
	return driver.RowsAffected(1), nil
}

func (c fullConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), nil
}
func (c fullConn) Query(string, []driver.Value) (driver.Rows, error) { return fullRows{}, nil }
func (c fullConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return fullRows{}, nil
}
func (c fullConn) CheckNamedValue(*driver.NamedValue) error { return nil }
func (c fullConn) Ping(context.Context) error               { return nil }
func (c fullConn) ResetSession(context.Context) error       { return nil }
func (c fullConn) IsValid() bool                            { return true }

type fullStmt struct{ convertingStmt }

func (fullStmt) CheckNamedValue(*driver.NamedValue) error { return nil }
func (fullStmt) ExecContext(context.Context, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), nil
}

func (fullStmt) QueryContext(context.Context, []driver.NamedValue) (driver.Rows, error) {
	return fullRows{}, nil
}

type fullRows struct{ plainRows }

func (fullRows) HasNextResultSet() bool                             { return false }
func (fullRows) NextResultSet() error                               { return io.EOF }
func (fullRows) ColumnTypeDatabaseTypeName(int) string              { return "TIMESTAMP" }
func (fullRows) ColumnTypeLength(int) (int64, bool)                 { return 8, true }
func (fullRows) ColumnTypeNullable(int) (nullable, ok bool)         { return true, true }
func (fullRows) ColumnTypePrecisionScale(int) (p, s int64, ok bool) { return 6, 0, true }
func (fullRows) ColumnTypeScanType(int) reflect.Type                { return reflect.TypeFor[time.Time]() }
