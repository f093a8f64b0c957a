package sqlpool_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestReloadChangesSizesAndTimesUnderLoad(t *testing.T) {
	s := newFakeServer()
	cfg := sqlpool.DBConfig{MaxOpen: 2, Logger: quiet(), AcquireTimeout: 30 * time.Second}
	p := fakePool(t, s, cfg)
	defer stop(t, p)
	end := underLoad(t, 12, func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "sleep 200us"); return err })
	for i := range 60 {
		cfg.MaxOpen = 1 + i%12
		cfg.MinIdle = i % cfg.MaxOpen
		cfg.MaxLifetime = time.Duration(1+i) * time.Hour
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if st := p.Stats(); st.Max != cfg.MaxOpen {
			t.Errorf("Max = %d, want %d", st.Max, cfg.MaxOpen)
		}
	}
	cfg.MaxOpen, cfg.MinIdle = 3, 0
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no more than the new limit is open", func() bool { return p.Stats().Open <= 3 })
	for range 1000 {
		if st := p.Stats(); st.InUse > 3 {
			t.Fatalf("%d in use with a limit of 3", st.InUse)
		}
	}
	end()
}

func TestReloadRaisesTheLimitForCallersWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 1, Logger: quiet()})
		defer stop(t, p)
		c := hold(t, p)
		defer func() { _ = c.Close() }()
		got := make(chan error, 1)
		go func() {
			_, err := p.DB().ExecContext(t.Context(), "x")
			got <- err
		}()
		synctest.Wait()
		if err := p.Reload(t.Context(), sqlpool.DBConfig{MaxOpen: 2, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestReloadChangesEvictionAndLeakReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := logTo()
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 5, Logger: log, DisableLeakStacks: true, LeakThreshold: poolkeeper.Off})
		defer stop(t, p)
		idle(t, p, 4)
		c := hold(t, p)
		next := sqlpool.DBConfig{MaxOpen: 5, MaxIdleTime: 10 * time.Second, LeakThreshold: time.Minute, Logger: log}
		if err := p.Reload(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		advance(2 * time.Minute)
		if got := p.Stats(); got.Open != 1 || got.Leaks != 1 {
			t.Errorf("open %d, leaks %d; want what is in use, and its report", got.Open, got.Leaks)
		}
		for _, want := range []string{"kind=reloaded", "MaxIdleTime=\"5m0s → 10s\"", "held for too long"} {
			if !strings.Contains(logged(), want) {
				t.Errorf("the log has no %q:\n%s", want, logged())
			}
		}
		_ = c.Close()
		d := hold(t, p) // stacks are on now
		if h := p.Holders(); len(h) != 1 || h[0].Stack == "" {
			t.Errorf("holders are %+v", h)
		}
		_ = d.Close()
	})
}

func TestReloadThatCannotBeDoneTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders", MaxOpen: 5, Logger: quiet()})
		err := p.Reload(t.Context(), sqlpool.DBConfig{Name: "other", MaxOpen: 7, MinIdle: 8, MaxDials: -1, Start: poolkeeper.StartWaitForServer})
		for _, want := range []string{"nothing was changed", "MinIdle is 8", "MaxDials is -1"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		err = p.Reload(t.Context(), sqlpool.DBConfig{Name: "other", MaxOpen: 7, Start: poolkeeper.StartWaitForServer, Logger: quiet()})
		for _, want := range []string{"nothing was changed", "Name cannot change", "Start cannot change"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		if st := p.Stats(); st.Max != 5 {
			t.Errorf("Max is %d now", st.Max)
		}
		stop(t, p)
		if err := p.Reload(t.Context(), sqlpool.DBConfig{}); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Reload after Stop: %v", err)
		}
	})
}

func TestResetReplacesConnectionsWithoutAFailedQuery(t *testing.T) {
	s := newFakeServer()
	p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 4, MinIdle: 2, AcquireTimeout: 30 * time.Second})
	defer stop(t, p)
	end := underLoad(t, 8, func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "sleep 100us"); return err })
	for range 20 {
		// At least one of the last round's has gone by now: of four, one at least is new.
		eventually(t, "there is something to replace", func() bool { return p.Stats().Open == 4 })
		before := p.Stats().Evicted["reload"]
		p.Reset()
		eventually(t, "connections have been replaced", func() bool { return p.Stats().Evicted["reload"] > before })
	}
	end()
}

func TestPostgresReloadAndRotation(t *testing.T) {
	srv := testserver.SharedPostgres(t)
	admin := sqltest.Postgres(t, srv)
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	for _, q := range []string{"create role blue login password 'b'", "create role green login password 'g'"} {
		if _, err := admin.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = admin.Exec(context.WithoutCancel(t.Context()), "drop role blue; drop role green") }()
	as := func(user string) sqlpool.PostgresConfig {
		return sqlpool.PostgresConfig{
			URL:     strings.Replace(srv.URL(), "postgres@", user+":x@", 1),
			MaxOpen: 4, MaxOpenCeiling: 8, MinIdle: 2, Logger: quiet(), AcquireTimeout: 30 * time.Second,
		}
	}
	p, err := sqlpool.NewPostgres(as("blue"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := underLoad(t, 8, func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err })
	user := func() string {
		var u string
		if err := p.Pool().QueryRow(t.Context(), "select current_user").Scan(&u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := user(); u != "blue" {
		t.Errorf("user is %s", u)
	}
	// To another user: what was opened as the old one is replaced under load, and no query fails.
	if err := p.Reload(t.Context(), as("green")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every connection is the new user's", func() bool {
		var n int
		err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where usename = 'blue'").Scan(&n)
		return err == nil && n == 0
	})
	if u := user(); u != "green" {
		t.Errorf("user is %s", u)
	}
	// To a user that does not exist: it is found out before anything changes.
	if err := p.Reload(t.Context(), as("nobody")); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("Reload to a user that does not exist: %v", err)
	}
	// Size, up to the ceiling.
	bigger := as("green")
	bigger.MaxOpen = 8
	if err := p.Reload(t.Context(), bigger); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool grows", func() bool { return p.Stats().Open > 4 })
	bigger.MaxOpen = 9
	if err := p.Reload(t.Context(), bigger); err == nil {
		t.Error("MaxOpen above the ceiling is accepted")
	}
	smaller := as("green")
	smaller.MaxOpen, smaller.MinIdle, smaller.MaxOpenCeiling = 1, 0, 0 // a ceiling that is not said stays
	if list, err := p.Plan(smaller); err != nil || !slices.Contains(list, poolkeeper.Change{Field: "MaxOpen", From: "8", To: "1"}) {
		t.Errorf("the plan is %v: %v", list, err)
	}
	if list, err := p.Plan(sqlpool.PostgresConfig{URL: srv.URL(), MaxOpen: 9, MaxOpenCeiling: 9}); err == nil || len(list) == 0 {
		t.Errorf("the plan for a higher ceiling is %v: %v", list, err)
	}
	if err := p.Reload(t.Context(), smaller); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool shrinks", func() bool { return p.Stats().Open <= 1 })
	end()
	if p.Stats().Use.Count == 0 {
		t.Error("no query ran")
	}
}

// A password is changed at the server, and the pool is told at its next dial. No query fails.
func TestMySQLPasswordRotation(t *testing.T) {
	srv := testserver.MariaDB(t)
	mysqlExec(t, srv, "create user app identified by 'first'", "grant all on *.* to app")
	var password atomic.Value
	password.Store("first")
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{
		MaxOpen: 4, MinIdle: 2, Logger: quiet(), AcquireTimeout: 30 * time.Second,
		Credentials: func(context.Context) (string, string, error) { s, _ := password.Load().(string); return "app", s, nil },
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := underLoad(t, 8, func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "do 1"); return err })
	eventually(t, "the pool is full: no dial comes between the server's change and the pool's", func() bool { return p.Stats().Open == 4 })
	dials := p.Stats().Dials
	mysqlExec(t, srv, "alter user app identified by 'second'")
	password.Store("second")
	p.Reset()
	eventually(t, "connections have been opened with the new password", func() bool { return p.Stats().Dials >= dials+2 })
	end()
	stop(t, p)
}

// INV-9: the connection by which a Reload tries what is new ends with the pool.
func TestStopEndsTheConnectionThatAReloadTries(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := sqlpool.PostgresConfig{URL: sqlpooltest.ServePostgres(t).URL(), DialTimeout: 20 * time.Second, Logger: quiet()}
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	if err = p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.URL = "postgres://fake@" + l.Addr().String() + "/fake?sslmode=disable"
	reloaded := make(chan error, 1)
	go func() { reloaded <- p.Reload(t.Context(), cfg) }()
	tried, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tried.Close() }()
	if err = p.Stop(within(t, 10*time.Second)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	select {
	case err := <-reloaded:
		if err == nil {
			t.Error("Reload has succeeded")
		}
	case <-within(t, 5*time.Second).Done():
		t.Error("Reload goes on")
	}
}
