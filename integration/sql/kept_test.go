package integration_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/XSAM/otelsql"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// contender is one way to a *sql.DB on a connector.
type contender struct {
	name string
	open func(testing.TB, driver.Connector) *sql.DB
	// native is what a user of Conn.Raw gets at.
	native func(any) any
}

func contenders() []contender {
	opened := func(open func(driver.Connector) *sql.DB) func(testing.TB, driver.Connector) *sql.DB {
		return func(tb testing.TB, c driver.Connector) *sql.DB {
			tb.Helper()
			db := open(c)
			tb.Cleanup(func() {
				if err := db.Close(); err != nil {
					tb.Error(err)
				}
			})
			return db
		}
	}
	return []contender{
		{"bare", opened(sql.OpenDB), func(c any) any { return c }},
		{"sqlpool", func(tb testing.TB, c driver.Connector) *sql.DB {
			tb.Helper()
			pool, err := sqlpool.NewDB(c, sqlpool.DBConfig{MaxOpen: 16, MaxDials: 16, Logger: silent()})
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() {
				if err := pool.Stop(within(tb, patience)); err != nil {
					tb.Error(err)
				}
			})
			return pool.DB()
		}, sqlpool.Native},
		{"otelsql", opened(func(c driver.Connector) *sql.DB { return otelsql.OpenDB(c) }), func(c any) any {
			if w, ok := c.(interface{ Raw() driver.Conn }); ok {
				return w.Raw()
			}
			return c
		}},
	}
}

func has[I any](v any) bool {
	_, ok := v.(I)
	return ok
}

// optional are the optional interfaces of package driver.
var optional = []struct {
	of, name string
	in       func(any) bool
}{
	{"Conn", "ConnBeginTx", has[driver.ConnBeginTx]},
	{"Conn", "ConnPrepareContext", has[driver.ConnPrepareContext]},
	{"Conn", "Execer", has[driver.Execer]}, //nolint:staticcheck // old drivers have it
	{"Conn", "ExecerContext", has[driver.ExecerContext]},
	{"Conn", "Queryer", has[driver.Queryer]}, //nolint:staticcheck // old drivers have it
	{"Conn", "QueryerContext", has[driver.QueryerContext]},
	{"Conn", "NamedValueChecker", has[driver.NamedValueChecker]},
	{"Conn", "Pinger", has[driver.Pinger]},
	{"Conn", "SessionResetter", has[driver.SessionResetter]},
	{"Conn", "Validator", has[driver.Validator]},
	{"Stmt", "ColumnConverter", has[driver.ColumnConverter]}, //nolint:staticcheck // old drivers have it
	{"Stmt", "NamedValueChecker", has[driver.NamedValueChecker]},
	{"Stmt", "StmtExecContext", has[driver.StmtExecContext]},
	{"Stmt", "StmtQueryContext", has[driver.StmtQueryContext]},
	{"Rows", "RowsNextResultSet", has[driver.RowsNextResultSet]},
	{"Rows", "RowsColumnTypeDatabaseTypeName", has[driver.RowsColumnTypeDatabaseTypeName]},
	{"Rows", "RowsColumnTypeLength", has[driver.RowsColumnTypeLength]},
	{"Rows", "RowsColumnTypeNullable", has[driver.RowsColumnTypeNullable]},
	{"Rows", "RowsColumnTypePrecisionScale", has[driver.RowsColumnTypePrecisionScale]},
	{"Rows", "RowsColumnTypeScanType", has[driver.RowsColumnTypeScanType]},
}

// parts are what database/sql gets of a driver: a connection, a statement and rows.
func parts(t *testing.T, db *sql.DB) map[string]any {
	t.Helper()
	out := map[string]any{}
	look := func(dc any) error {
		out["Conn"] = dc
		stmt, err := prepare(t.Context(), dc)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }()
		out["Stmt"] = stmt
		var rows driver.Rows
		if q, ok := stmt.(driver.StmtQueryContext); ok {
			rows, err = q.QueryContext(t.Context(), nil)
		} else {
			rows, err = stmt.Query(nil) //nolint:staticcheck // the plain driver has only this one
		}
		if err != nil {
			return err
		}
		out["Rows"] = rows
		return rows.Close()
	}
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Raw(look); err != nil {
		t.Fatal(err)
	}
	return out
}

func prepare(ctx context.Context, conn any) (driver.Stmt, error) {
	if p, ok := conn.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, "query")
	}
	c, ok := conn.(driver.Conn)
	if !ok {
		return nil, fmt.Errorf("%T is no driver.Conn", conn)
	}
	return c.Prepare("query")
}

// What each wrapper shows of a driver that has every optional interface (full), and of one that has
// none (plain). What is added is emulated; whether that is right is said by the next test. Execer
// and Queryer are not asked for where their successors are there, so nothing is lost without them.
func TestWhichOptionalInterfacesEachWrapperKeeps(t *testing.T) {
	drivers := []struct {
		name string
		conn func(*fakeDriver) driver.Conn
	}{
		{"full", func(d *fakeDriver) driver.Conn { return fullConn{plainConn{d}} }},
		{"plain", func(d *fakeDriver) driver.Conn { return plainConn{d} }},
	}
	shown := map[string]map[string]any{} // by driver and contender
	for _, d := range drivers {
		for _, c := range contenders() {
			shown[d.name+c.name] = parts(t, c.open(t, &fakeDriver{conn: d.conn}))
		}
	}
	word := func(d, contender, of string, in func(any) bool) string {
		switch bare, wrapped := in(shown[d+"bare"][of]), in(shown[d+contender][of]); {
		case bare && wrapped:
			return "kept"
		case bare:
			return "lost"
		case wrapped:
			return "added"
		default:
			return "-"
		}
	}
	var got strings.Builder
	row := func(cells ...any) { fmt.Fprintf(&got, "%-4s %-31s %-8s %-8s %-8s %s\n", cells...) }
	row("", "", "sqlpool", "otelsql", "sqlpool", "otelsql")
	row("of", "interface", "full", "full", "plain", "plain")
	for _, o := range optional {
		row(o.of, o.name, word("full", "sqlpool", o.of, o.in), word("full", "otelsql", o.of, o.in),
			word("plain", "sqlpool", o.of, o.in), word("plain", "otelsql", o.of, o.in))
	}
	if want := strings.TrimPrefix(wantKept, "\n"); got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

const wantKept = `
                                     sqlpool  otelsql  sqlpool  otelsql
of   interface                       full     full     plain    plain
Conn ConnBeginTx                     kept     kept     added    added
Conn ConnPrepareContext              kept     kept     added    added
Conn Execer                          lost     kept     -        added
Conn ExecerContext                   kept     kept     -        added
Conn Queryer                         lost     kept     -        added
Conn QueryerContext                  kept     kept     -        added
Conn NamedValueChecker               kept     kept     added    added
Conn Pinger                          kept     kept     added    added
Conn SessionResetter                 kept     kept     added    added
Conn Validator                       kept     kept     added    added
Stmt ColumnConverter                 kept     lost     -        -
Stmt NamedValueChecker               kept     kept     -        added
Stmt StmtExecContext                 kept     kept     added    added
Stmt StmtQueryContext                kept     kept     added    added
Rows RowsNextResultSet               kept     kept     -        added
Rows RowsColumnTypeDatabaseTypeName  kept     kept     -        added
Rows RowsColumnTypeLength            kept     kept     -        added
Rows RowsColumnTypeNullable          kept     kept     -        added
Rows RowsColumnTypePrecisionScale    kept     kept     -        added
Rows RowsColumnTypeScanType          kept     lost     -        -
`

// A wrapper may show whatever interfaces it likes as long as users of database/sql cannot tell:
// sqlpool must do as the bare driver in every case. Where otelsql differs is written down, as a
// reason to look again when it changes.
func TestUsersCannotTellSqlpoolFromTheBareDriver(t *testing.T) {
	for _, f := range []struct {
		what    string
		conn    func(*fakeDriver) driver.Conn
		outcome func(*testing.T, *sql.DB, *fakeDriver) string
		bare    string
		otelsql string
	}{
		{
			what:    "a connection that cannot be reset is closed after its transaction was rolled back by a context",
			conn:    func(d *fakeDriver) driver.Conn { return plainConn{d} },
			outcome: rolledBackByContext, bare: "closed", otelsql: "kept",
		},
		{
			what:    "a statement's ColumnConverter is asked",
			conn:    func(d *fakeDriver) driver.Conn { return convertingConn{plainConn{d}} },
			outcome: argumentSeen, bare: "Connect Stmt.Exec(converted)", otelsql: "Connect Stmt.Exec(plain)",
		},
		{
			what:    "a driver of old that executes without preparing does so",
			conn:    func(d *fakeDriver) driver.Conn { return oldConn{plainConn{d}} },
			outcome: executed, bare: "Connect Exec", otelsql: "Connect Prepare Stmt.Exec",
		},
		{
			what:    "the type that a column scans into is the driver's",
			conn:    func(d *fakeDriver) driver.Conn { return fullConn{plainConn{d}} },
			outcome: scanType, bare: "time.Time", otelsql: "interface {}",
		},
		{
			what:    "the driver's database type names are seen",
			conn:    func(d *fakeDriver) driver.Conn { return fullConn{plainConn{d}} },
			outcome: typeName, bare: "TIMESTAMP", otelsql: "TIMESTAMP",
		},
	} {
		t.Run(f.what, func(t *testing.T) {
			want := map[string]string{"bare": f.bare, "sqlpool": f.bare, "otelsql": f.otelsql}
			for _, c := range contenders() {
				d := &fakeDriver{conn: f.conn}
				if got := f.outcome(t, c.open(t, d), d); got != want[c.name] {
					t.Errorf("%s: %q, want %q", c.name, got, want[c.name])
				}
			}
		})
	}
}

// The native connection is within reach of everybody.
func TestNativeConnectionIsReached(t *testing.T) {
	for _, c := range contenders() {
		db := c.open(t, &fakeDriver{conn: func(d *fakeDriver) driver.Conn { return fullConn{plainConn{d}} }})
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Raw(func(dc any) error {
			if native := c.native(dc); reflect.TypeOf(native) != reflect.TypeFor[fullConn]() {
				return fmt.Errorf("%s: got at a %T", c.name, native)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func rolledBackByContext(t *testing.T, db *sql.DB, d *fakeDriver) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "the transaction is over", func() bool { return db.Stats().InUse == 0 })
	_ = tx.Rollback() // it has been
	if _, err := db.ExecContext(t.Context(), "query"); err != nil {
		t.Fatal(err)
	}
	if strings.Count(d.did(), "Connect") == 1 {
		return "kept"
	}
	return "closed"
}

func argumentSeen(t *testing.T, db *sql.DB, d *fakeDriver) string {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "query", "plain"); err != nil {
		t.Fatal(err)
	}
	return d.did()
}

func executed(t *testing.T, db *sql.DB, d *fakeDriver) string {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "query"); err != nil {
		t.Fatal(err)
	}
	return d.did()
}

func column(t *testing.T, db *sql.DB) *sql.ColumnType {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "query")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.ColumnTypes()
	if err != nil || rows.Err() != nil {
		t.Fatal(err, rows.Err())
	}
	return columns[0]
}

func scanType(t *testing.T, db *sql.DB, _ *fakeDriver) string {
	t.Helper()
	return column(t, db).ScanType().String()
}

func typeName(t *testing.T, db *sql.DB, _ *fakeDriver) string {
	t.Helper()
	return column(t, db).DatabaseTypeName()
}

// A driver that otelsql has wrapped works under a managed pool: both see each query, and the pool
// still drains and closes.
func TestPoolOnADriverWrappedByOtelsql(t *testing.T) {
	d := &fakeDriver{conn: func(d *fakeDriver) driver.Conn { return oldConn{plainConn{d}} }}
	wrapped, ok := otelsql.WrapDriver(d).(driver.DriverContext)
	if !ok {
		t.Fatal("otelsql's driver has no connectors")
	}
	connector, err := wrapped.OpenConnector("")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := sqlpool.NewDB(connector, sqlpool.DBConfig{MaxOpen: 2, Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	if err = pool.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	tx, err := pool.DB().BeginTx(within(t, patience), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(within(t, patience), "query"); err != nil {
		t.Error(err)
	}
	if h := pool.Holders(); len(h) != 1 || !strings.Contains(h[0].Stack, "TestPoolOnADriverWrappedByOtelsql") {
		t.Errorf("holders: %+v", h)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if err := pool.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	calls := d.did()
	if opened, closed := strings.Count(calls, "Connect"), strings.Count(calls, "Close"); opened == 0 || opened != closed {
		t.Errorf("%d connections opened, %d closed: %s", opened, closed, calls)
	}
}
