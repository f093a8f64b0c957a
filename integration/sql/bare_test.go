package integration_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// dialect is one real driver, with its words for what the script does.
type dialect struct {
	name    string
	open    func(t *testing.T, database string) driver.Connector // of a database of its own
	blob    string                                               // a type
	twice   string                                               // two result sets
	forever string                                               // a query that runs until its context ends
	param   func(i int) string
	sticky  [2]string // sets something in a session, and asks for it
}

func question(int) string { return "?" }
func dollar(i int) string { return fmt.Sprint("$", i) }

// dialects are the drivers that this project promises to leave as they are; sqlmock's is tried in
// sqlpooltest.
func dialects() []dialect {
	return []dialect{
		{
			name: "modernc.org/sqlite",
			open: func(t *testing.T, database string) driver.Connector {
				t.Helper()
				c, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), database) + "?_pragma=busy_timeout(5000)&_time_format=sqlite")
				if err != nil {
					t.Fatal(err)
				}
				return c
			},
			blob: "blob", twice: "select 1; select 2, 3", param: question,
			forever: "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
			sticky:  [2]string{"create temp table mine as select 7 as n", "select n from mine"},
		},
		{
			name: "pgx/stdlib",
			open: func(t *testing.T, database string) driver.Connector {
				t.Helper()
				srv := testserver.SharedPostgres(t)
				c, err := pgx.ParseConfig(srv.URL())
				if err != nil {
					t.Fatal(err)
				}
				run(t, stdlib.OpenDB(*c), "drop database if exists "+database, "create database "+database)
				c.Database = database
				return stdlib.GetConnector(*c)
			},
			blob: "bytea", twice: "select 1; select 2, 3", param: dollar,
			forever: "select pg_sleep(60)",
			sticky:  [2]string{"set application_name = 'mine'", "show application_name"},
		},
		{
			name: "go-sql-driver/mysql",
			open: func(t *testing.T, database string) driver.Connector {
				t.Helper()
				c, err := mysql.ParseDSN(testserver.SharedMariaDB(t).DSN())
				if err != nil {
					t.Fatal(err)
				}
				db, err := sql.Open("mysql", c.FormatDSN())
				if err != nil {
					t.Fatal(err)
				}
				run(t, db, "drop database if exists "+database, "create database "+database)
				c.DBName, c.MultiStatements, c.ParseTime = database, true, true
				connector, err := mysql.NewConnector(c)
				if err != nil {
					t.Fatal(err)
				}
				return connector
			},
			blob: "blob", twice: "select 1; select 2, 3", param: question,
			forever: "select sleep(60)",
			sticky:  [2]string{"set @mine = 7", "select @mine"},
		},
	}
}

func run(t *testing.T, db *sql.DB, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if _, err := db.ExecContext(within(t, patience), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Users of a real driver must not be able to tell whether it is managed: whatever they do, values,
// types and errors are the same. (That the driver's methods are called alike, for every set of
// optional interfaces, is tried in sqlpool.)
func TestRealDriversBehaveUnderThePoolAsByThemselves(t *testing.T) {
	for _, d := range dialects() {
		t.Run(d.name, func(t *testing.T) {
			bare := sql.OpenDB(d.open(t, "bare"))
			bare.SetMaxOpenConns(4)
			bare.SetMaxIdleConns(4)
			want := everything(t, d, bare)
			if err := bare.Close(); err != nil {
				t.Fatal(err)
			}
			p, err := sqlpool.NewDB(d.open(t, "managed"), sqlpool.DBConfig{MaxOpen: 4, Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			got := everything(t, d, p.DB())
			if err := p.Stop(within(t, patience)); err != nil {
				t.Error(err)
			}
			for i := range max(len(want), len(got)) {
				if i >= len(want) || i >= len(got) || want[i] != got[i] {
					t.Errorf("they differ from here:\nbare:    %q\nmanaged: %q", want[min(i, len(want)):min(i+3, len(want))], got[min(i, len(got)):min(i+3, len(got))])
					return
				}
			}
			if failed := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "must work") && !strings.HasSuffix(s, "<nil>") }); failed >= 0 {
				t.Errorf("the script does not do what it means to: %s", got[failed])
			}
			t.Logf("%d outcomes compared", len(got))
		})
	}
}

// notes collects outcomes.
type notes []string

func (n *notes) add(what string, outcome ...any) {
	*n = append(*n, what+": "+strings.TrimSpace(fmt.Sprintln(outcome...)))
}

// everything is what users do to a *sql.DB.
func everything(t *testing.T, d dialect, db *sql.DB) []string {
	t.Helper()
	ctx, out := within(t, patience), new(notes)
	out.add("must work: ping", db.PingContext(ctx))
	values(ctx, d, db, out)
	statements(ctx, d, db, out)
	transactions(ctx, t, d, db, out)
	givenUp(ctx, t, d, db, out)
	connections(ctx, t, d, db, out)
	return *out
}

// values go in and come out, with what is known of their columns.
func values(ctx context.Context, d dialect, db *sql.DB, out *notes) {
	_, err := db.ExecContext(ctx, "create table kinds (i integer, f double precision, s varchar(40), b "+d.blob+", t timestamp null, n integer)")
	out.add("must work: create", err)
	params := []string{d.param(1), d.param(2), d.param(3), d.param(4), d.param(5), d.param(6)}
	insert := "insert into kinds (i, f, s, b, t, n) values (" + strings.Join(params, ", ") + ")"
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for _, args := range [][]any{
		{1, 1.5, "text", []byte{1, 0, 2}, at, nil},
		{int64(1) << 40, float32(2), "", []byte{}, nil, 7},
		{uint8(3), true, sql.NullString{}, nil, sql.NullTime{Time: at, Valid: true}, sql.Null[int]{V: 1, Valid: true}},
		{(*int)(nil), nil, new(string), nil, (*time.Time)(nil), uint64(1) << 63},
		{1, 2},
		{struct{ A int }{1}, nil, nil, nil, nil, nil},
		{[]int{1}, nil, nil, nil, nil, nil},
		{sql.Named("i", 5), nil, nil, nil, nil, nil},
		{(chan int)(nil), nil, nil, nil, nil, nil},
	} {
		result, insertErr := db.ExecContext(ctx, insert, args...)
		out.add(fmt.Sprintf("insert %T", args[0]), text(insertErr))
		if insertErr == nil {
			n, affectedErr := result.RowsAffected()
			out.add("affected", n, affectedErr)
			id, idErr := result.LastInsertId()
			out.add("last id", id, idErr)
		}
	}
	rows, err := db.QueryContext(ctx, "select * from kinds order by i, f")
	out.add("must work: select", err)
	if err == nil {
		dump(rows, out)
	}
	rows, err = db.QueryContext(ctx, d.twice)
	out.add("two results", text(err))
	if err == nil {
		dump(rows, out)
	}
	var i int
	out.add("no row", db.QueryRowContext(ctx, "select i from kinds where 1 = 0").Scan(&i))
	out.add("wrong type", text(db.QueryRowContext(ctx, "select s from kinds where s = 'text'").Scan(&i)))
	out.add("null into an int", text(db.QueryRowContext(ctx, "select n from kinds where s = 'text'").Scan(&i)))
	_, err = db.ExecContext(ctx, "this is not sql")
	out.add("syntax", text(err))
}

// dump notes types and values of every result set.
func dump(rows *sql.Rows, out *notes) {
	for {
		columns, err := rows.ColumnTypes()
		out.add("columns", err)
		for _, c := range columns {
			length, hasLength := c.Length()
			nullable, hasNullable := c.Nullable()
			precision, scale, decimal := c.DecimalSize()
			out.add(c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, nullable, hasNullable, precision, scale, decimal)
		}
		for rows.Next() {
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			err := rows.Scan(into...)
			out.add("row", fmt.Sprintf("%T %#v", row, row), err)
		}
		if !rows.NextResultSet() {
			out.add("rows", text(rows.Err()), rows.Close())
			return
		}
	}
}

func statements(ctx context.Context, d dialect, db *sql.DB, out *notes) {
	_, err := db.PrepareContext(ctx, "this is not sql") //nolint:sqlclosecheck // it must fail
	out.add("prepare nonsense", text(err))
	st, err := db.PrepareContext(ctx, "select s, n from kinds where i = "+d.param(1))
	out.add("must work: prepare", err)
	if err != nil {
		return
	}
	for _, arg := range []any{1, int64(1) << 40, "1", nil, []int{1}, sql.Named("i", 1)} {
		rows, queryErr := st.QueryContext(ctx, arg)
		out.add(fmt.Sprintf("prepared %T", arg), text(queryErr))
		if queryErr == nil {
			dump(rows, out)
		}
	}
	_, err = st.ExecContext(ctx)
	out.add("too few", text(err))
	tx, err := db.BeginTx(ctx, nil)
	out.add("must work: begin", err)
	if err != nil {
		return
	}
	var s sql.NullString
	var n sql.NullInt64
	inside := tx.StmtContext(ctx, st)
	out.add("in a transaction", inside.QueryRowContext(ctx, 1).Scan(&s, &n), s, n)
	out.add("must work: close in a transaction", inside.Close()) //nolint:sqlclosecheck // here, for its outcome
	out.add("must work: commit", tx.Commit())
	out.add("must work: close", st.Close()) //nolint:sqlclosecheck // here, because it is used afterwards
	_, err = st.ExecContext(ctx, 1)
	out.add("after close", text(err))
}

func transactions(ctx context.Context, t *testing.T, d dialect, db *sql.DB, out *notes) {
	t.Helper()
	count := func() (n int) {
		out.add("must work: count", db.QueryRowContext(ctx, "select count(*) from kinds").Scan(&n))
		return n
	}
	insert := "insert into kinds (i) values (" + d.param(1) + ")"
	for level := sql.LevelDefault; level <= sql.LevelLinearizable; level++ {
		for _, readOnly := range []bool{false, true} {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: readOnly})
			out.add(fmt.Sprint("begin ", level, readOnly), text(err))
			if err != nil {
				continue
			}
			_, err = tx.ExecContext(ctx, insert, 100)
			out.add("write", text(err))
			out.add("end", text(tx.Commit()), text(tx.Rollback()))
		}
	}
	out.add("rows", count())
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.ExecContext(ctx, insert, 101)
	out.add("write", err, tx.Rollback())
	out.add("rows", count())

	ending, cancel := context.WithCancel(ctx)
	defer cancel()
	if tx, err = db.BeginTx(ending, nil); err != nil {
		t.Fatal(err)
	}
	_, err = tx.ExecContext(ending, insert, 102)
	out.add("write", err)
	cancel()
	eventually(t, "the transaction is rolled back", func() bool { return db.Stats().InUse == 0 })
	out.add("commit after the context's end", text(tx.Commit()))
	out.add("rows", count())
}

// givenUp notes what a caller sees when its context ends. What the driver then says may depend on
// the moment.
func givenUp(ctx context.Context, t *testing.T, d dialect, db *sql.DB, out *notes) {
	t.Helper()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var n any
	err := db.QueryRowContext(short, d.forever).Scan(&n)
	out.add("impatience", err != nil, short.Err())
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = db.ExecContext(ended, "select 1")
	out.add("for nobody", text(err), errors.Is(err, context.Canceled))
	out.add("must work: again", db.PingContext(ctx))
	eventually(t, "nothing is in use", func() bool { return db.Stats().InUse == 0 })
}

func connections(ctx context.Context, t *testing.T, d dialect, db *sql.DB, out *notes) {
	t.Helper()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ExecContext(ctx, d.sticky[0])
	out.add("must work: set in a session", err)
	out.add("native", c.Raw(func(dc any) error {
		_, preparer := sqlpool.Native(dc).(driver.ConnPrepareContext)
		out.add("raw", fmt.Sprintf("%T", sqlpool.Native(dc)), preparer)
		return nil
	}))
	out.add("must work: give back", c.Close())
	out.add("twice", c.Close(), c.PingContext(ctx))
	var seen string
	err = db.QueryRowContext(ctx, d.sticky[1]).Scan(&seen) // the same connection: the one used last comes first
	out.add("must work: the session's state", err)
	out.add("it is", seen)
	if c, err = db.Conn(ctx); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { out.add("panic", recover()) }()
		_ = c.Raw(func(any) error { panic("in Raw") })
	}()
	out.add("after a panic in Raw", text(c.PingContext(ctx)), c.Close())
	if c, err = db.Conn(ctx); err != nil {
		t.Fatal(err)
	}
	out.add("bad", c.Raw(func(any) error { return driver.ErrBadConn }), c.PingContext(ctx), c.Close())
	out.add("must work: after all", db.PingContext(ctx))
}

// text is an error's type and text, without what differs from run to run.
func text(err error) string {
	return strings.NewReplacer("bare", "…", "managed", "…").Replace(fmt.Sprintf("%T %v", err, err))
}
