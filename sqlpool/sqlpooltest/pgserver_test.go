package sqlpooltest_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

const selectUser = "select id, name from users where id = $1"

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func exec(t *testing.T, pool *sqlpool.Postgres, sql string) error {
	t.Helper()
	_, err := pool.Pool().Exec(t.Context(), sql)
	return err
}

func TestFakeServerAnswersInEveryExecMode(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer(selectUser, sqlpooltest.Answer{Columns: []string{"id", "name"}, Rows: [][]any{{int64(7), "Ada"}, {int64(8), nil}}})
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			for range 2 { // the second time from pgx's cache
				rows, err := pool.Pool().Query(t.Context(), selectUser, mode, 7)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				var id int64
				var name *string
				_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
					if name == nil {
						got = append(got, fmt.Sprint(id, " null"))
						return nil
					}
					got = append(got, fmt.Sprint(id, " ", *name))
					return nil
				})
				if err != nil || strings.Join(got, ", ") != "7 Ada, 8 null" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	t.Run("simple protocol", func(t *testing.T) {
		srv.Answer("select name from users", sqlpooltest.Answer{Columns: []string{"name"}, Rows: [][]any{{""}}})
		var name *string
		err := pool.Pool().QueryRow(t.Context(), "select name\n\tfrom users;", pgx.QueryExecModeSimpleProtocol).Scan(&name)
		if err != nil || name == nil || *name != "" {
			t.Errorf("%v, %v; want an empty string, which is not null", name, err)
		}
	})
	t.Run("database/sql", func(t *testing.T) {
		var id int
		var name string
		if err := pool.DB().QueryRowContext(t.Context(), selectUser, 7).Scan(&id, &name); err != nil || id != 7 || name != "Ada" {
			t.Error(id, name, err)
		}
	})
}

func TestFakeServerGivesEveryCommonTypeBack(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	at := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)
	want := []any{int64(1), int32(2), int16(3), true, 1.5, "text", []byte{1, 2}, at, []string{"a", "b"}}
	columns := make([]string, len(want))
	for i := range columns {
		columns[i] = fmt.Sprint("c", i)
	}
	srv.Answer("select everything", sqlpooltest.Answer{Columns: columns, Rows: [][]any{want}})
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		var a int64
		var b int32
		var c int16
		var d bool
		var e float64
		var f string
		var g []byte
		var h time.Time
		var i []string
		err := pool.Pool().QueryRow(t.Context(), "select everything", mode).Scan(&a, &b, &c, &d, &e, &f, &g, &h, &i)
		got := []any{a, b, c, d, e, f, g, h.UTC(), i}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v; want %v", mode, got, err, want)
		}
	}
}

func TestFuncSeesTheArgumentsAndQueriesAreKept(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.AnswerMatching(regexp.MustCompile(`(?i)^select \$1 \+ \$2$`), sqlpooltest.Answer{
		Columns: []string{"sum"}, Types: []uint32{pgtype.Int8OID}, Params: []uint32{pgtype.Int8OID, pgtype.Int8OID},
		Func: func(args []any) ([][]any, error) {
			a, okA := args[0].(int64)
			b, okB := args[1].(int64)
			if !okA || !okB {
				return nil, fmt.Errorf("arguments are %T and %T", args[0], args[1])
			}
			return [][]any{{a + b}}, nil
		},
	})
	var sum int
	if err := pool.Pool().QueryRow(t.Context(), "SELECT $1 +\n $2", 2, 3).Scan(&sum); err != nil || sum != 5 {
		t.Error(sum, err)
	}
	err := pool.Pool().QueryRow(t.Context(), "SELECT $1 + $2", nil, 3).Scan(&sum)
	if err == nil || !strings.Contains(err.Error(), "arguments are <nil> and int64") {
		t.Errorf("an error of Func comes back as %v", err)
	}
	if err := pool.Pool().Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if got := srv.Queries(); len(got) != 2 || fmt.Sprint(got[0].Args) != "[2 3]" {
		t.Errorf("queries are %v, want the two and no ping", got)
	}
}

func TestAnswersCanChangeUnderAPreparedStatement(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	ask := func() (n int, err error) {
		err = pool.Pool().QueryRow(t.Context(), "select n").Scan(&n)
		return n, err
	}
	for _, want := range []int{1, 2} {
		srv.Answer("select n", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{want}}})
		if n, err := ask(); n != want || err != nil {
			t.Fatal(n, err)
		}
	}
	srv.Answer("select n", sqlpooltest.Answer{Columns: []string{"m"}, Rows: [][]any{{3}}})
	if _, err := ask(); sqlState(err) != "0A000" {
		t.Errorf("other columns than were prepared: %v, want 0A000", err)
	}
	if n, err := ask(); n != 3 || err != nil { // pgx has prepared anew
		t.Error(n, err)
	}
}

func TestFakeServerKnowsTransactions(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("update t set a = 1", sqlpooltest.Answer{Affected: 3})
	srv.Answer("update t set a = 'x'", sqlpooltest.Answer{Err: &pgconn.PgError{Code: "22P02", Message: "no number", ColumnName: "a"}})

	tx, err := pool.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tag, err := tx.Exec(t.Context(), "update t set a = 1")
	if err != nil || tag.RowsAffected() != 3 {
		t.Error(tag, err)
	}
	inner, err := tx.Begin(t.Context()) // a savepoint
	if err != nil {
		t.Fatal(err)
	}
	_, err = inner.Exec(t.Context(), "update t set a = 'x'")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "22P02" || e.ColumnName != "a" {
		t.Errorf("the error is %v, not the one that was to be answered", err)
	}
	if _, err = inner.Exec(t.Context(), "update t set a = 1"); sqlState(err) != "25P02" {
		t.Errorf("a failed transaction answers %v, want 25P02", err)
	}
	if err = inner.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err = tx.Exec(t.Context(), "update t set a = 1"); err != nil {
		t.Errorf("after a rollback to the savepoint: %v", err)
	}
	if err = tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}

	err = pgx.BeginTxFunc(t.Context(), pool.Pool(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, txErr := tx.Exec(t.Context(), "update t set a = 1")
		return txErr
	})
	if sqlState(err) != "25006" {
		t.Errorf("a write in a read-only transaction: %v, want 25006", err)
	}
	if err = exec(t, pool, "update t set a = 1"); err != nil {
		t.Errorf("the read-only transaction outlives its end: %v", err)
	}
}

func TestWhatIsNotAnsweredSaysSo(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	if err := exec(t, pool, "select  unheard "); err == nil || !strings.Contains(err.Error(), `no answer is registered for "select unheard"`) {
		t.Error(err)
	}
	c, err := pool.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader("1\n2\n"), "copy t from stdin")
	if sqlState(err) != "0A000" || !strings.Contains(err.Error(), "COPY is not supported") {
		t.Errorf("COPY: %v", err)
	}
	if err = c.Conn().Ping(t.Context()); err != nil {
		t.Errorf("the connection is of no use after a refused COPY: %v", err)
	}
	c.Release()
	srv.Answer("bad types", sqlpooltest.Answer{Columns: []string{"a", "b"}, Types: []uint32{pgtype.TextOID}})
	srv.Answer("bad row", sqlpooltest.Answer{Columns: []string{"a", "b"}, Rows: [][]any{{"1"}}})
	srv.Answer("bad value", sqlpooltest.Answer{Columns: []string{"a"}, Rows: [][]any{{make(chan int)}}})
	srv.Answer("bad encoding", sqlpooltest.Answer{Columns: []string{"a"}, Types: []uint32{pgtype.Int8OID}, Rows: [][]any{{[]int{1}}}})
	for sql, want := range map[string]string{
		"bad types": "1 types for 2 columns", "bad row": "1 values for 2 columns", "bad value": "chan int", "bad encoding": `column "a"`,
	} {
		if err = exec(t, pool, sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}
	_, err = pool.Pool().Exec(t.Context(), "select $2", "one") // pgx counts too
	if err == nil {
		t.Error("too few arguments are accepted")
	}
}

func TestRefusedPortIsRefusedAndComesBack(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("select 1", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{1}}})
	addr := srv.Addr()
	srv.Refuse()
	srv.Refuse()
	testkit.Eventually(t, "no connection is left", func() bool { return srv.Connections() == 0 })
	if err := exec(t, pool, "select 1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want connection refused", err)
	}
	if err := pool.Check(t.Context()); health.Classify(err).Kind != health.KindRefused {
		t.Errorf("the check says %v", err)
	}
	srv.Heal()
	if err := exec(t, pool, "select 1"); err != nil || srv.Addr() != addr {
		t.Error(err, srv.Addr())
	}
}

func TestHangingServerSaysNothingUntilHealed(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("select 1", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{1}}})
	srv.Hang()
	srv.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := pool.Pool().Exec(ctx, "select 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the caller's deadline", err)
	}
	answered := make(chan error)
	go func() {
		_, err := pool.Pool().Exec(t.Context(), "select 1")
		answered <- err
	}()
	srv.Heal()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestDroppedAndTerminatedConnectionsAreReplaced(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("select 1", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{1}}})
	for name, hit := range map[string]func(){"drop": srv.Drop, "terminate": srv.Terminate} {
		t.Run(name, func(t *testing.T) {
			c, err := pool.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Release()
			hit()
			_, err = c.Exec(t.Context(), "select 1")
			switch {
			case name == "terminate" && sqlState(err) != "57P01":
				t.Errorf("%v, want 57P01", err)
			case name == "drop" && (err == nil || sqlState(err) != ""):
				t.Errorf("%v, want a lost connection", err) // pgx says it in several ways
			}
			if err := exec(t, pool, "select 1"); err != nil {
				t.Errorf("a new connection: %v", err)
			}
		})
	}
}

func TestServerThatIsFullOrRefusesLoginsIsClassified(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t) // its check has a connection
	srv.MaxConnections(1)
	if err := exec(t, pool, "set a = 1"); sqlState(err) != "53300" || sqlpool.Classify(err).Kind != health.KindTooManyConnections {
		t.Errorf("%v, want 53300", err)
	}
	srv.Heal()
	if err := exec(t, pool, "set a = 1"); err != nil || srv.Connections() != 2 {
		t.Errorf("%v, %d connections", err, srv.Connections())
	}
	srv.RefuseLogins("28P01", "password authentication failed")
	srv.Drop()
	_ = exec(t, pool, "set a = 1") // may come too soon after the last use for the loss to be noticed before
	if err := exec(t, pool, "set a = 1"); sqlState(err) != "28P01" {
		t.Errorf("%v, want 28P01", err)
	}
}

func TestReadOnlyServerRefusesWhatWrites(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.AnswerMatching(regexp.MustCompile("."), sqlpooltest.Answer{})
	srv.ReadOnly()
	for sql, ok := range map[string]bool{
		"select 1": true, "select a from b for update": false, "insert into a values (1)": false, "with a as (select 1) select * from a": true,
		"with a as (delete from b returning c) select * from a": false, "set x = 1": true, "TRUNCATE a": false, "create table a (b int)": false,
	} {
		if err := exec(t, pool, sql); ok != (err == nil) || !ok && sqlState(err) != "25006" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	srv.Heal()
	if err := exec(t, pool, "insert into a values (1)"); err != nil {
		t.Error(err)
	}
}

func TestSlowStatementIsCancelledByItsCaller(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("select slow", sqlpooltest.Answer{Columns: []string{"n"}, Rows: [][]any{{1}}, Delay: time.Minute})
	c, err := pool.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	done := make(chan error)
	go func() {
		_, slowErr := c.Exec(t.Context(), "select slow")
		done <- slowErr
	}()
	testkit.Eventually(t, "the query is under way", func() bool { return len(srv.Queries()) > 0 })
	testkit.Eventually(t, "the query is cancelled", func() bool { // the first request may come before the wait
		if cancelErr := c.Conn().PgConn().CancelRequest(t.Context()); cancelErr != nil {
			t.Fatal(cancelErr)
		}
		select {
		case err = <-done:
			return true
		default:
			return false
		}
	})
	if sqlState(err) != "57014" {
		t.Errorf("%v, want 57014", err)
	}
	srv.Slow(20 * time.Millisecond)
	since := time.Now()
	if _, err := c.Exec(t.Context(), "set a = 1"); err != nil || time.Since(since) < 20*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(since))
	}
}

func TestGarbageAndFailedQueriesReachTheCaller(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.FailQueries("53200", "out of memory")
	if err := exec(t, pool, "set a = 1"); sqlState(err) != "53200" {
		t.Errorf("%v, want 53200", err)
	}
	srv.Heal()
	srv.Garbage()
	if err := exec(t, pool, "set a = 1"); err == nil || sqlState(err) != "" {
		t.Errorf("garbage is taken for %v", err)
	}
	srv.Heal()
	if err := exec(t, pool, "set a = 1"); err != nil {
		t.Error(err)
	}
}

func TestHeldConnectionFailsTheTest(t *testing.T) {
	r := &recorder{TB: t}
	pool, srv := sqlpooltest.NewPostgres(r, func(c *sqlpool.PostgresConfig) { c.MaxOpen = 3 })
	c, err := pool.Pool().Acquire(t.Context())
	if err != nil || pool.Stats().Max != 3 {
		t.Fatal(err, pool.Stats().Max)
	}
	tooLate, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_ = pool.Stop(tooLate) // the clean-up gets the same answer, without its 5 s
	for i := range r.cleanups {
		r.cleanups[len(r.cleanups)-1-i]()
	}
	if len(r.errors) == 0 || !strings.Contains(r.errors[0], "cut off 1 connection held by conn for ") {
		t.Errorf("errors: %q", r.errors)
	}
	c.Release()
	if srv.Connections() != 0 {
		t.Errorf("%d connections after the server was stopped", srv.Connections())
	}
}

func TestBatchIsAnsweredInOrderUpToTheFirstError(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer(selectUser, sqlpooltest.Answer{Columns: []string{"id", "name"}, Rows: [][]any{{int64(7), "Ada"}}})
	srv.Answer("update t set a = $1", sqlpooltest.Answer{Affected: 2})
	srv.Answer("fail", sqlpooltest.Answer{Err: &pgconn.PgError{Code: "23505", Message: "duplicate"}})

	batch := new(pgx.Batch)
	batch.Queue("update t set a = $1", 1)
	batch.Queue(selectUser, 7)
	batch.Queue("fail")
	batch.Queue(selectUser, 8)
	results := pool.Pool().SendBatch(t.Context(), batch)
	if tag, err := results.Exec(); err != nil || tag.RowsAffected() != 2 {
		t.Error(tag, err)
	}
	var id int
	var name string
	if err := results.QueryRow().Scan(&id, &name); err != nil || name != "Ada" {
		t.Error(id, name, err)
	}
	if _, err := results.Exec(); sqlState(err) != "23505" {
		t.Errorf("%v, want 23505", err)
	}
	if err := results.Close(); sqlState(err) != "23505" {
		t.Errorf("%v, want 23505", err)
	}
	if got := len(srv.Queries()); got != 3 {
		t.Errorf("%d statements were run, want none after the error", got)
	}
	if err := pool.Pool().Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDatabaseSQLRunsATransactionOnTheFakeServer(t *testing.T) {
	pool, srv := sqlpooltest.NewPostgres(t)
	srv.Answer("update t set a = $1 where b = $2", sqlpooltest.Answer{Affected: 2})
	tx, err := pool.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tx.ExecContext(t.Context(), "update t set a = $1 where b = $2", 1, "x")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); n != 2 || err != nil {
		t.Error(n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}
