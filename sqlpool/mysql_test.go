package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
)

// mysqlFor makes a pool whose connections use a database of the test's own, and a function that
// asks the server how many there are.
func mysqlFor(t *testing.T, srv *testserver.Server, cfg sqlpool.MySQLConfig) (*sqlpool.MySQL, func() int) {
	t.Helper()
	admin := sqltest.MySQL(t, srv)
	name := "t" + strings.ToLower(t.Name()[len("TestMySQL"):])
	name = name[:min(len(name), 60)]
	if _, err := admin.ExecContext(t.Context(), "create database if not exists "+name); err != nil {
		t.Fatal(err)
	}
	cfg.URL = "mysql://root@" + srv.Addr() + "/" + name
	p, err := sqlpool.NewMySQL(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Stop(ctx) // a test that wants its outcome has called it before
	})
	return p, func() int {
		var n int
		err := admin.QueryRowContext(t.Context(), "select count(*) from information_schema.processlist where db = ?", name).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func startMySQL(t *testing.T, cfg sqlpool.MySQLConfig) (*sqlpool.MySQL, func() int) {
	t.Helper()
	p, onServer := mysqlFor(t, testserver.SharedMariaDB(t), cfg)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, onServer
}

// INV-9, seen from the server.
func TestMySQLServesAndLeavesNothingOnTheServer(t *testing.T) {
	p, onServer := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 4, MinIdle: 2, AcquireTimeout: 30 * time.Second})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 50 {
				var n int
				if err := p.DB().QueryRowContext(t.Context(), "select ?", i).Scan(&n); err != nil || n != i {
					t.Error(n, err)
				}
			}
		})
	}
	wg.Wait()
	st := p.Stats()
	if st.Open > 4 || st.InUse != 0 || st.Use.Count != 16*50 || st.Dials > 4 {
		t.Errorf("Stats = %+v", st)
	}
	eventually(t, "the pool's connections and the check's are on the server", func() bool { return onServer() == p.Stats().Open+1 })
	stop(t, p)
	eventually(t, "no connection is left on the server", func() bool { return onServer() == 0 })
}

// A leaked Rows, Tx and Conn: named with file and line, and cut off the server. A query that runs
// on is ended.
func TestMySQLStopNamesLeaksAndCutsThemOff(t *testing.T) {
	testkit.Slow(t)
	p, onServer := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 8})
	ctx := t.Context()
	rows, err := p.DB().QueryContext(ctx, "select seq from seq_1_to_1000000")
	if err != nil || rows.Err() != nil {
		t.Fatal(err, rows.Err())
	}
	tx, err := p.DB().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := hold(t, p)
	running := make(chan error, 1)
	go func() {
		_, rerr := p.DB().ExecContext(ctx, "select sleep(60)")
		running <- rerr
	}()
	eventually(t, "the query runs", func() bool { return p.Stats().InUse == 4 })
	begun := time.Now()
	err = p.Stop(within(t, 300*time.Millisecond))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Stop took %v", took)
	}
	held, ok := errors.AsType[*poolkeeper.HeldError](err)
	if !ok || held.Cut != 4 || held.Left != 0 {
		t.Fatalf("Stop: %v", err)
	}
	var kinds []string
	for _, h := range held.Holders {
		kinds = append(kinds, h.Kind)
		if !strings.Contains(h.Stack, "TestMySQLStopNamesLeaksAndCutsThemOff") && !strings.Contains(h.Stack, "sqlpool_test.hold") {
			t.Errorf("stack of %s:\n%s", h.Kind, h.Stack)
		}
	}
	if got := strings.Join(kinds, " "); got != "rows tx conn conn" {
		t.Errorf("kinds are %s", got)
	}
	if <-running == nil {
		t.Error("the query that was cut off succeeded")
	}
	_, err = tx.ExecContext(ctx, "select 1")
	if err == nil {
		t.Error("the transaction that was cut off goes on")
	}
	for _, c := range []io.Closer{rows, conn} {
		_ = c.Close()
	}
	_ = tx.Rollback()
	eventually(t, "the server has no connection of ours", func() bool { return onServer() == 0 })
}

func TestMySQLStopAndCheckAreBoundedWhileTheServerIsFrozen(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t)
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{MaxOpen: 3})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DB().ExecContext(t.Context(), "do 1"); err != nil {
		t.Fatal(err)
	}
	srv.Freeze(t)
	defer srv.Thaw(t)
	got := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // the signal may take a moment
			_, err = p.DB().ExecContext(t.Context(), "do 1")
		}
		got <- err
	}()
	hangs(t, p)
	if err := p.Check(within(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Check: %v", err)
	}
	begun := time.Now()
	err := p.Stop(within(t, 300*time.Millisecond))
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("Stop took %v", took)
	}
	if held, ok := errors.AsType[*poolkeeper.HeldError](err); !ok || held.Cut != 1 {
		t.Errorf("Stop: %v", err)
	}
	if err := <-got; err == nil {
		t.Error("the query that was cut off succeeded")
	}
}

func TestMySQLStartPoliciesAndRecovery(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t)
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{Start: poolkeeper.StartDegraded, MinIdle: 2, EvictionInterval: 50 * time.Millisecond})
	fast, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{})
	srv.Kill(t)
	if err := fast.Start(t.Context()); err == nil || health.Classify(err).Kind != health.KindRefused {
		t.Errorf("StartFailFast: %v (%s)", err, health.Classify(err).Kind)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Restart(t)
	eventually(t, "Check is well and MinIdle is there", func() bool { return p.Check(t.Context()) == nil && p.Stats().Idle == 2 })
	srv.Kill(t)
	srv.Restart(t)
	eventually(t, "queries work after a crash", func() bool {
		_, err := p.DB().ExecContext(t.Context(), "do 1")
		return err == nil
	})
	stop(t, p)
}

// KILL of every idle connection costs no caller anything: the driver looks at a connection before
// it uses it.
func TestMySQLKilledIdleConnectionsCostNoCallerAnything(t *testing.T) {
	p, _ := startMySQL(t, sqlpool.MySQLConfig{MinIdle: 3, KeepAlive: poolkeeper.Off})
	eventually(t, "3 are idle", func() bool { return p.Stats().Idle == 3 })
	killAll(t, "tkilledidleconnectionscost%")
	if _, err := p.DB().ExecContext(t.Context(), "do 1"); err != nil {
		t.Error(err)
	}
	stop(t, p)
}

func TestMySQLKeepAliveReplacesWhatIsDead(t *testing.T) {
	p, _ := startMySQL(t, sqlpool.MySQLConfig{MinIdle: 3, KeepAlive: 100 * time.Millisecond, EvictionInterval: 20 * time.Millisecond})
	eventually(t, "3 are idle", func() bool { return p.Stats().Idle == 3 })
	killAll(t, "tkeepalivereplaces%")
	eventually(t, "the dead have been found and replaced without traffic", func() bool {
		st := p.Stats()
		return st.Evicted["dead"] == 3 && st.Idle == 3
	})
	stop(t, p)
}

// killAll kills every connection to databases whose name is like pattern.
func killAll(t *testing.T, pattern string) {
	t.Helper()
	admin := sqltest.MySQL(t, testserver.SharedMariaDB(t))
	var list string
	const query = "select group_concat(id) from information_schema.processlist where db like ?"
	if err := admin.QueryRowContext(t.Context(), query, pattern).Scan(&list); err != nil {
		t.Fatal(err)
	}
	for id := range strings.SplitSeq(list, ",") {
		if _, err := admin.ExecContext(t.Context(), "kill "+id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "their threads have ended", func() bool {
		var n int
		query := "select count(*) from information_schema.processlist where id in (" + list + ")"
		return admin.QueryRowContext(t.Context(), query).Scan(&n) == nil && n == 0
	})
}

func TestMySQLCredentialsAreAskedForEachDial(t *testing.T) {
	srv := testserver.SharedMariaDB(t)
	admin := sqltest.MySQL(t, srv)
	if _, err := admin.ExecContext(t.Context(), "create user rotating identified by 'first'"); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = admin.ExecContext(context.WithoutCancel(t.Context()), "drop user rotating") }()
	if _, err := admin.ExecContext(t.Context(), "grant all on *.* to rotating"); err != nil {
		t.Fatal(err)
	}
	var password atomic.Value
	password.Store("first")
	var hooked atomic.Int64
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{
		Credentials: func(context.Context) (string, string, error) {
			s, _ := password.Load().(string)
			if s == "" {
				return "", "", errFake
			}
			return "rotating", s, nil
		},
		Configure: func(c *mysql.Config) error {
			return c.Apply(mysql.BeforeConnect(func(context.Context, *mysql.Config) error { hooked.Add(1); return nil }))
		},
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var user string
	if err := p.DB().QueryRowContext(t.Context(), "select user()").Scan(&user); err != nil || !strings.HasPrefix(user, "rotating@") {
		t.Errorf("user %q: %v", user, err)
	}
	if hooked.Load() != 2 {
		t.Errorf("the user's own BeforeConnect ran %d times for 2 dials", hooked.Load())
	}
	password.Store("wrong")
	a := hold(t, p)
	_, err := p.DB().ExecContext(t.Context(), "do 1")
	if f := health.Classify(err); f.Kind != health.KindAuthentication {
		t.Errorf("with a wrong password: %v (%s)", err, f.Kind)
	}
	password.Store("")
	if _, err := p.DB().ExecContext(t.Context(), "do 1"); !errors.Is(err, errFake) {
		t.Errorf("with credentials that cannot be had: %v", err)
	}
	_ = a.Close()
	stop(t, p)
}

func TestMySQLUsersOwnDialFuncIsKept(t *testing.T) {
	var dials atomic.Int64
	p, _ := startMySQL(t, sqlpool.MySQLConfig{Configure: func(c *mysql.Config) error {
		c.DialFunc = countingDial(&dials)
		c.MultiStatements = true
		return nil
	}})
	if _, err := p.DB().ExecContext(t.Context(), "do 1; do 2"); err != nil {
		t.Error(err)
	}
	if got := dials.Load(); got != 2 {
		t.Errorf("it was called %d times, want for the pool's connection and the check's", got)
	}
	leaked := hold(t, p)
	err := p.Stop(within(t, 100*time.Millisecond))
	if held, ok := errors.AsType[*poolkeeper.HeldError](err); !ok || held.Cut != 1 {
		t.Errorf("Stop: %v; want the connection cut off, which its DialFunc has opened", err)
	}
	_ = leaked.Close()
}

func TestMySQLConnRawReachesTheDriver(t *testing.T) {
	p, _ := startMySQL(t, sqlpool.MySQLConfig{})
	c := hold(t, p)
	defer func() { _ = c.Close() }()
	err := c.Raw(func(dc any) error {
		if _, ok := sqlpool.Native(dc).(interface {
			driver.Conn
			driver.Pinger
			driver.Validator
		}); !ok {
			return errors.New("not the driver's connection")
		}
		if !strings.HasPrefix(typeName(sqlpool.Native(dc)), "*mysql.") {
			return errors.New(typeName(sqlpool.Native(dc)))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, ok := p.DB().Driver().(*mysql.MySQLDriver); !ok {
		t.Errorf("Driver is %T, want the driver's own", p.DB().Driver())
	}
}

// Isolation levels, read-only transactions and rollbacks by context, on the real driver.
func TestMySQLTransactionsBehave(t *testing.T) {
	p, _ := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 2})
	ctx := t.Context()
	if _, err := p.DB().ExecContext(ctx, "create or replace table t (n int) engine=innodb"); err != nil {
		t.Fatal(err)
	}
	tx, err := p.DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.ExecContext(ctx, "insert into t values (1)")
	if got := sqlpool.Classify(err).Kind; got != health.KindReadOnly {
		t.Errorf("a write in a read-only transaction: %v (%s)", err, got)
	}
	_ = tx.Rollback()
	txCtx, cancel := context.WithCancel(ctx)
	tx, err = p.DB().BeginTx(txCtx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "insert into t values (2)"); err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "the transaction is rolled back", func() bool { return p.Stats().InUse == 0 })
	var n int
	if err := p.DB().QueryRowContext(ctx, "select count(*) from t").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows after a rollback by context: %v", n, err)
	}
	stop(t, p)
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }

func countingDial(n *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// Idle connections that the server has closed are no reason for Stop to fail.
func TestMySQLStopOfWhatTheServerHasClosed(t *testing.T) {
	p, onServer := startMySQL(t, sqlpool.MySQLConfig{MaxOpen: 3, MinIdle: 3, Logger: quiet()})
	eventually(t, "all are open", func() bool { return p.Stats().Open == 3 && onServer() == 4 })
	var name string
	if err := p.DB().QueryRowContext(t.Context(), "select database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	admin := sqltest.MySQL(t, testserver.SharedMariaDB(t))
	rows, err := admin.QueryContext(t.Context(), "select id from information_schema.processlist where db = ?", name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var ids []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := admin.ExecContext(t.Context(), "kill "+strconv.Itoa(id)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the sessions have ended", func() bool { return onServer() == 0 })
	stop(t, p)
}
