package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// pgFor makes a pool whose connections have an application_name of the test's own, and a function
// that asks the server how many there are.
func pgFor(t *testing.T, srv *testserver.Server, cfg sqlpool.PostgresConfig) (*sqlpool.Postgres, func() int) {
	t.Helper()
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("application_name", t.Name())
	u.RawQuery = q.Encode()
	cfg.URL = u.String()
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Stop(ctx) // a test that wants its outcome has called it before
	})
	return p, func() int {
		admin := sqltest.Postgres(t, srv)
		defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
		var n int
		err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = $1", t.Name()).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func startPG(t *testing.T, cfg sqlpool.PostgresConfig) (*sqlpool.Postgres, func() int) {
	t.Helper()
	p, onServer := pgFor(t, testserver.SharedPostgres(t), cfg)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, onServer
}

// hangs waits until one and the same query has been under way for a while.
func hangs(t *testing.T, p interface{ Stats() poolkeeper.Stats }) {
	t.Helper()
	var uses uint64
	since := time.Now()
	eventually(t, "a query hangs", func() bool {
		st := p.Stats()
		if st.InUse != 1 || st.Use.Count != uses {
			uses, since = st.Use.Count, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
}

// INV-9, seen from the server.
func TestPostgresServesBothHandlesAndLeavesNothingOnTheServer(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{ // nothing that a busy machine could be too slow for
		MaxOpen: 4, MinIdle: 2, AcquireTimeout: time.Minute, DialTimeout: time.Minute,
		KeepAlive: poolkeeper.Off, SuspectPing: poolkeeper.Off,
	})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 30 {
				var n int
				if err := p.Pool().QueryRow(t.Context(), "select $1::int", i).Scan(&n); err != nil || n != i {
					t.Error(n, err)
				}
				if err := p.DB().QueryRowContext(t.Context(), "select $1::int", i).Scan(&n); err != nil || n != i {
					t.Error(n, err)
				}
			}
		})
	}
	wg.Wait()
	st := p.Stats()
	if st.Open > 4 || st.InUse != 0 || st.Use.Count != 16*30*2 || st.Dials > 4 {
		t.Errorf("Stats = %+v", st)
	}
	eventually(t, "the pool's connections and the check's are on the server", func() bool { return onServer() == p.Stats().Open+1 })
	stop(t, p)
	eventually(t, "no connection is left on the server", func() bool { return onServer() == 0 })
	if end := p.Stats(); end.Evicted["closed"] != end.Dials || end.Dials > 4 {
		t.Errorf("%d of %d connections count as closed", end.Evicted["closed"], end.Dials)
	}
	for what, err := range map[string]error{
		"pool":  p.Pool().Ping(t.Context()),
		"db":    p.DB().PingContext(t.Context()),
		"check": p.Check(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s works after Stop", what)
		}
	}
}

func TestPostgresCallersAtTheLimitAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) { c.MaxOpen = 1 })
		held, err := p.Pool().Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				c, err := p.Pool().Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i) // one at a time: there is one connection
				c.Release()
			})
			synctest.Wait()
			if got := p.Stats().Waiting; got != i+1 {
				t.Fatalf("%d wait, want %d", got, i+1)
			}
		}
		held.Release()
		wg.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestPostgresCallersAtTheLimitAreToldWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
			c.Name, c.MaxOpen, c.AcquireTimeout = "orders", 1, 50*time.Millisecond
		})
		srv.Answer("select 1", sqlpooltest.Answer{})
		tx, err := p.Pool().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err = p.Pool().Exec(t.Context(), "select 1")
		if took := time.Since(begun); took != 50*time.Millisecond {
			t.Errorf("gave up after %v, want AcquireTimeout, 50ms", took)
		}
		explained, ok := errors.AsType[*poolkeeper.AcquireError](err)
		if !ok || !errors.Is(err, poolkeeper.ErrAcquireTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error is %v (%T)", err, err)
		}
		if explained.Max != 1 || explained.InUse != 1 ||
			!strings.Contains(err.Error(), `"orders": 1 of 1 in use, oldest tx for`) || !strings.Contains(err.Error(), "postgres_test.go:") {
			t.Errorf("error is %v", err)
		}
		if _, err = p.DB().ExecContext(t.Context(), "select 1"); !errors.As(err, &explained) {
			t.Errorf("through *sql.DB the error is %v", err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err = p.Pool().Exec(gone, "select 1"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who has gone gets %v", err)
		}
		if st := p.Stats(); st.AcquireTimeouts != 2 {
			t.Errorf("AcquireTimeouts = %d, want 2", st.AcquireTimeouts)
		}
		if err = tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err = p.Pool().Exec(t.Context(), "select 1"); err != nil {
			t.Errorf("once the connection is back: %v", err)
		}
	})
}

func TestPostgresDrainFinishesWorkInFlight(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 3})
	ctx := t.Context()
	tx, err := p.Pool().Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sqlTx, err := p.DB().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	queued := make(chan error, 1)
	go func() {
		_, err := p.Pool().Exec(ctx, "select 1")
		queued <- err
	}()
	eventually(t, "a caller waits", func() bool { return p.Stats().Waiting == 1 })
	if err := p.Drain(expired(t)); err == nil {
		t.Error("Drain does not wait")
	}
	_, err1 := p.Pool().Exec(ctx, "select 1")
	_, err2 := p.DB().ExecContext(ctx, "select 1")
	if !errors.Is(err1, poolkeeper.ErrDraining) || !errors.Is(err2, poolkeeper.ErrDraining) {
		t.Errorf("new work: %v, %v; want ErrDraining", err1, err2)
	}
	_, err1 = tx.Exec(ctx, "select 1")
	_, err2 = c.Exec(ctx, "select 1")
	_, err3 := sqlTx.ExecContext(ctx, "select 1")
	if err := errors.Join(err1, err2, err3, tx.Commit(ctx), sqlTx.Commit()); err != nil {
		t.Errorf("work in flight: %v", err)
	}
	if err := <-queued; err != nil {
		t.Errorf("a caller who was in the queue: %v", err)
	}
	c.Release()
	if err := p.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
	stop(t, p)
}

// A leaked Rows, Tx, Conn and connection of pgxpool: named with file and line, and cut off the
// server.
func TestPostgresStopNamesLeaksAndCutsThemOff(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{Name: "orders", MaxOpen: 8})
	ctx := t.Context()
	rows, err := p.Pool().Query(ctx, "select generate_series(1, 1000000)")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := p.DB().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.DB().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pgConn, err := p.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
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
		if !strings.Contains(h.Stack, "TestPostgresStopNamesLeaksAndCutsThemOff") || !strings.Contains(h.Stack, "postgres_test.go:") {
			t.Errorf("stack of %s:\n%s", h.Kind, h.Stack)
		}
	}
	if got := strings.Join(kinds, " "); got != "rows tx conn conn" {
		t.Errorf("kinds are %s", got)
	}
	eventually(t, "the server has no connection of ours", func() bool { return onServer() == 0 })
	rows.Close()
	_ = tx.Rollback()
	_ = conn.Close()
	pgConn.Release()
}

func TestPostgresHijackedConnectionFreesItsPlace(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{MaxOpen: 1, AcquireTimeout: 20 * time.Second})
	c, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hijacked := c.Hijack()
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("after a hijack the pool has room for another connection: %v", err)
	}
	if _, err := hijacked.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("the hijacked connection: %v", err)
	}
	stop(t, p) // does not wait for it
	eventually(t, "the hijacked connection alone is left, its owner's to close", func() bool { return onServer() == 1 })
	if err := hijacked.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPostgresAllIdleAcquisitionsAreCountedAndAwaited(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 4, MinIdle: 3})
	eventually(t, "3 are idle", func() bool { return p.Stats().Idle == 3 })
	conns := p.Pool().AcquireAllIdle(t.Context())
	if st := p.Stats(); st.InUse != 3 {
		t.Errorf("in use %d, want 3", st.InUse)
	}
	if err := p.Drain(within(t, 50*time.Millisecond)); err == nil {
		t.Error("Drain does not wait for them")
	}
	for _, c := range conns {
		c.Release()
	}
	stop(t, p)
}

func TestPostgresSurplusAndLifetimes(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{
		MaxOpen: 20, MaxDials: 20, MinIdle: 2, MaxIdleTime: 500 * time.Millisecond, EvictionInterval: 50 * time.Millisecond,
		AcquireTimeout: 30 * time.Second, MaxLifetime: poolkeeper.Off,
	})
	burst := func(n int) {
		var conns []*pgxpool.Conn
		for range n {
			c, err := p.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Release()
		}
	}
	burst(12)
	eventually(t, "light traffic has made the surplus go, down to one in use and MinIdle", func() bool {
		if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
			t.Fatal(err)
		}
		return p.Stats().Open <= 3
	})
	eventually(t, "the server sees the same", func() bool { return onServer() == p.Stats().Open+1 })
	st := p.Stats()
	if st.Evicted["idle"] < 9 || st.Dials > 15 {
		t.Errorf("evicted %v, %d dials", st.Evicted, st.Dials)
	}
}

func TestPostgresLifetimesShorterThanASecondDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
			c.MaxOpen, c.MaxDials, c.MinIdle = 20, 20, 20
			c.MaxLifetime, c.LifetimeJitter, c.EvictionInterval = 900*time.Millisecond, 0.9, 10*time.Millisecond
		})
		var last uint64
		steps := 0
		for last < 20 {
			time.Sleep(5 * time.Millisecond)
			synctest.Wait()
			if ended := p.Stats().Evicted["lifetime"]; ended != last {
				last = ended
				steps++
			}
		}
		if steps < 5 { // whole-second jitter makes them end together
			t.Errorf("20 connections ended in %d steps", steps)
		}
	})
}

func TestPostgresKeepAlivePingsAndReplacesWhatIsDead(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{MinIdle: 3, KeepAlive: 100 * time.Millisecond, EvictionInterval: 20 * time.Millisecond})
	eventually(t, "3 are idle", func() bool { return p.Stats().Idle == 3 })
	admin := sqltest.Postgres(t, testserver.SharedPostgres(t))
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	const kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1"
	if _, err := admin.Exec(t.Context(), kill, t.Name()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead have been found and replaced without traffic", func() bool {
		st := p.Stats()
		return st.Evicted["dead"] == 3 && st.Idle == 3
	})
}

type countingTracer struct{ queries, acquires, releases, connects atomic.Int64 }

type tracerKey struct{}

func (c *countingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracerKey{}, c)
}

func (c *countingTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(tracerKey{}) == c {
		c.queries.Add(1)
	}
}

func (c *countingTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, tracerKey{}, c)
}

func (c *countingTracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	if ctx.Value(tracerKey{}) == c {
		c.acquires.Add(1)
	}
}

func (c *countingTracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { c.releases.Add(1) }

func (c *countingTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (c *countingTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) { c.connects.Add(1) }

func TestPostgresUsersOwnTracerAndHooksGoOnWorking(t *testing.T) {
	tracer := new(countingTracer)
	var beforeConnect, afterConnect, prepared, pinged, closed atomic.Int64
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 2, Configure: func(c *pgxpool.Config) error {
		c.ConnConfig.Tracer = tracer
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			beforeConnect.Add(1)
			cc.RuntimeParams["search_path"] = "mine"
			return nil
		}
		c.AfterConnect = func(context.Context, *pgx.Conn) error { afterConnect.Add(1); return nil }
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared.Add(1); return true, nil }
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { pinged.Add(1); return false }
		c.BeforeClose = func(*pgx.Conn) { closed.Add(1) }
		return nil
	}})
	for range 5 {
		var path string
		if err := p.Pool().QueryRow(t.Context(), "show search_path").Scan(&path); err != nil || path != "mine" {
			t.Errorf("search_path is %q: %v", path, err)
		}
	}
	stop(t, p)
	if n := tracer.queries.Load(); n != 5 && n != 6 { // Start may have asked for the server's limits meanwhile
		t.Errorf("queries: %d, want 5 or 6", n)
	}
	for what, n := range map[string]int64{
		"acquires": tracer.acquires.Load(), "releases": tracer.releases.Load(),
		"prepared": prepared.Load(), "asked whether to ping": pinged.Load(),
	} {
		if n != 5 {
			t.Errorf("%s: %d, want 5", what, n)
		}
	}
	for what, n := range map[string]int64{"connects": tracer.connects.Load(), "before connect": beforeConnect.Load()} {
		if n != 2 { // the check's connection too
			t.Errorf("%s: %d, want 2", what, n)
		}
	}
	if afterConnect.Load() != 1 || closed.Load() != 1 {
		t.Errorf("after connect %d, before close %d; want 1 and 1", afterConnect.Load(), closed.Load())
	}
	if st := p.Stats(); st.Dials != 1 || st.Use.Count != 5 {
		t.Errorf("the pool's own counts beside them: %+v", st)
	}
}

func TestPostgresClosingTheHandleIsNoticed(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{MinIdle: 1})
	p.Pool().Close()
	if err := p.Pool().Ping(t.Context()); err == nil {
		t.Fatal("a closed pool works")
	}
	eventually(t, "the check's connection is closed too", func() bool { return onServer() == 0 })
	if err := p.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Check: %v", err)
	}
	stop(t, p)
}

func TestPostgresStopAndAbortWithoutStart(t *testing.T) {
	p, _ := pgFor(t, testserver.SharedPostgres(t), sqlpool.PostgresConfig{MinIdle: 3})
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	p, _ = pgFor(t, testserver.SharedPostgres(t), sqlpool.PostgresConfig{MinIdle: 3})
	_ = p.DB() // which starts a goroutine
	stop(t, p)
	_ = p.DB()
}

func TestPostgresNewDialsNothing(t *testing.T) {
	p, onServer := pgFor(t, testserver.SharedPostgres(t), sqlpool.PostgresConfig{MinIdle: 3})
	if n := onServer(); n != 0 || p.Stats().Dials != 0 {
		t.Errorf("%d connections before Start", n)
	}
}

// A frozen server: what is under way does not keep Stop beyond its deadline, and Check says so in
// time.
func TestPostgresStopAndCheckAreBoundedWhileTheServerIsFrozen(t *testing.T) {
	srv := testserver.Postgres(t)
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{MaxOpen: 3})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	srv.Freeze(t)
	defer srv.Thaw(t)
	got := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // the signal may take a moment
			_, err = p.Pool().Exec(t.Context(), "select 1")
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

func TestPostgresStartPoliciesAndRecovery(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	srv.Kill(t)
	fast, _ := pgFor(t, srv, sqlpool.PostgresConfig{})
	if err := fast.Start(t.Context()); err == nil || health.Classify(err).Kind != health.KindRefused {
		t.Errorf("StartFailFast: %v (%s)", err, health.Classify(err).Kind)
	}
	log, _ := logTo()
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{Start: poolkeeper.StartDegraded, MinIdle: 2, EvictionInterval: 50 * time.Millisecond, Logger: log})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context()); err == nil {
		t.Error("Check succeeds without a server")
	}
	srv.Restart(t)
	eventually(t, "Check is well and MinIdle is there", func() bool { return p.Check(t.Context()) == nil && p.Stats().Idle == 2 })
	srv.Kill(t)
	srv.Restart(t)
	eventually(t, "queries work after a crash", func() bool {
		_, err := p.Pool().Exec(t.Context(), "select 1")
		return err == nil
	})
	stop(t, p)
}

func TestPostgresCredentialsAreAskedForEachDial(t *testing.T) {
	srv := testserver.SharedPostgres(t)
	admin := sqltest.Postgres(t, srv)
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	if _, err := admin.Exec(t.Context(), "create role rotating login password 'first'"); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = admin.Exec(context.WithoutCancel(t.Context()), "drop role rotating") }()
	var asked atomic.Int64
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{Credentials: func(ctx context.Context) (string, string, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("Credentials is not bounded")
		}
		if asked.Add(1) > 2 {
			return "", "", errFake
		}
		return "rotating", "first", nil
	}})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var user string
	if err := p.Pool().QueryRow(t.Context(), "select current_user").Scan(&user); err != nil || user != "rotating" {
		t.Errorf("user %q: %v", user, err)
	}
	p.Pool().Reset()
	if _, err := p.Pool().Exec(t.Context(), "select 1"); !errors.Is(err, errFake) {
		t.Errorf("with credentials that cannot be had: %v", err)
	}
	stop(t, p)
}

func TestPostgresObserverHearsOfTheServer(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := new(observer)
	p.ObserveWith(o)
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Pool().Exec(t.Context(), "select nonsense from nowhere")
	if got := o.take(); len(got) != 2 || errors.Join(got...) != nil {
		t.Errorf("after success and a statement's own fault: %v", got)
	}
	srv.Kill(t)
	_, err := p.Pool().Exec(t.Context(), "select 1")
	if err == nil {
		t.Fatal("a killed server answers")
	}
	if got := o.take(); len(got) == 0 || got[0] == nil {
		t.Errorf("after the server was killed, when the caller got %q: %v", err, got)
	}
	stop(t, p)
}

func TestPostgresFailedConnectsAreCountedAndTheirPlacesFreed(t *testing.T) {
	srv := testserver.Postgres(t)
	srv.Kill(t)
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{MaxOpen: 2, MaxDials: 1})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := p.Pool().Exec(t.Context(), "select 1"); err == nil {
				t.Error("a killed server answers")
			}
		})
	}
	wg.Wait()
	if st := p.Stats(); st.DialErrors == 0 || st.DialErrors > 10 || st.InUse != 0 { // one refusal may answer several callers
		t.Errorf("Stats = %+v", st)
	}
	srv.Restart(t)
	for range 4 {
		if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
			t.Error(err)
		}
	}
	stop(t, p)
}

func TestPostgresConnectionClosedInUseKeepsItsPlaceUntilItIsGone(t *testing.T) {
	p, onServer := startPG(t, sqlpool.PostgresConfig{MaxOpen: 2, AcquireTimeout: 20 * time.Second})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				// A query that its caller gives up closes its connection; pgx asks the server to
				// cancel it.
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Millisecond)
				_, _ = p.Pool().Exec(ctx, "select pg_sleep(1)")
				cancel()
			}
		})
	}
	most := 0
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
			most = max(most, onServer())
		}
	}
	if most > 3 { // and the check's
		t.Errorf("%d connections on the server at once, want at most MaxOpen, 2, and the check's", most)
	}
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	stop(t, p)
}

func ExampleNewPostgres() {
	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://shop@db.internal/orders?sslmode=disable", MaxOpen: 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = orders.Stop(context.Background()) }()
	// orders.Start(ctx), or a lifecycle.Registry's, comes before the first query.
	fmt.Println(orders.Pool().Config().MaxConns, orders.Stats().Dials)
	// Output: 20 0
}
