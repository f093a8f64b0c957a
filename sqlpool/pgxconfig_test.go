package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// clean reports what is the pool's in a configuration that a user can read.
func clean(c *pgx.ConnConfig, tracer pgx.QueryTracer, timeout time.Duration) error {
	var errs []error
	if c.Tracer != tracer {
		errs = append(errs, fmt.Errorf("the tracer is a %T", c.Tracer))
	}
	if c.ConnectTimeout != timeout {
		errs = append(errs, fmt.Errorf("ConnectTimeout is %v", c.ConnectTimeout))
	}
	return errors.Join(errs...)
}

// readingTracer reads the configuration wherever a tracer can.
type readingTracer struct {
	t       *testing.T
	timeout time.Duration
	read    atomic.Int64
}

func (r *readingTracer) check(where string, c *pgx.ConnConfig) {
	r.read.Add(1)
	if err := clean(c, r, r.timeout); err != nil {
		r.t.Errorf("%s: %v", where, err)
	}
}

func (r *readingTracer) TraceQueryStart(ctx context.Context, c *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.check("TraceQueryStart", c.Config())
	return ctx
}
func (r *readingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *readingTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	r.check("TraceConnectStart", data.ConnConfig)
	return ctx
}

func (r *readingTracer) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	r.check("TraceConnectEnd", data.Conn.Config())
}

// Wherever users can read a configuration it is their own.
func TestPostgresConfigurationReadsAsTheUsers(t *testing.T) {
	tracer := &readingTracer{t: t, timeout: 7 * time.Second}
	p, srv := sqlpooltest.NewPostgres(t, func(c *sqlpool.PostgresConfig) {
		c.MaxOpen, c.MaxOpenCeiling, c.MaxLifetime, c.MaxIdleTime = 3, 9, time.Hour, time.Minute
		c.Configure = func(c *pgxpool.Config) error {
			c.ConnConfig.Tracer, c.ConnConfig.ConnectTimeout = tracer, tracer.timeout
			c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { tracer.check("BeforeConnect", c); return nil }
			c.AfterConnect = func(_ context.Context, c *pgx.Conn) error { tracer.check("AfterConnect", c.Config()); return nil }
			c.BeforeClose = func(c *pgx.Conn) { tracer.check("BeforeClose", c.Config()) }
			return nil
		}
	})
	srv.Answer("x", sqlpooltest.Answer{})
	if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	c := p.Pool().Config()
	tracer.check("Pool().Config()", c.ConnConfig)
	if c.MaxConns != 3 || c.MaxConnLifetime != time.Hour || c.MaxConnIdleTime != time.Minute {
		t.Errorf("sizes and times: %+v", c)
	}
	if c.PrepareConn != nil || c.ShouldPing != nil || c.AfterRelease != nil || c.BeforeConnect == nil || c.BeforeClose == nil {
		t.Error("hooks that are not the user's, or not all of them")
	}
	stop(t, p)
	if n := tracer.read.Load(); n < 8 {
		t.Errorf("read %d times only", n)
	}
}

// ways are those by which users make a pool or a connection by what a managed pool lets them read.
var ways = map[string]func(context.Context, *testing.T, *pgxpool.Pool, func(*pgx.ConnConfig)) func(context.Context) error{
	"Pool.Config": func(ctx context.Context, t *testing.T, from *pgxpool.Pool, change func(*pgx.ConnConfig)) func(context.Context) error {
		t.Helper()
		c := from.Config()
		change(c.ConnConfig)
		clone, err := pgxpool.NewWithConfig(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(clone.Close)
		return clone.Ping
	},
	"ConnConfig": func(ctx context.Context, t *testing.T, from *pgxpool.Pool, change func(*pgx.ConnConfig)) func(context.Context) error {
		t.Helper()
		return connected(ctx, t, from.Config().ConnConfig, change)
	},
	"Conn.Config": func(ctx context.Context, t *testing.T, from *pgxpool.Pool, change func(*pgx.ConnConfig)) func(context.Context) error {
		t.Helper()
		c, err := from.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		return connected(ctx, t, c.Conn().Config(), change)
	},
}

func connected(ctx context.Context, t *testing.T, c *pgx.ConnConfig, change func(*pgx.ConnConfig)) func(context.Context) error {
	t.Helper()
	change(c)
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
	return conn.Ping
}

// changes are what users do to such a configuration first.
var changes = map[string]func(*pgx.ConnConfig){
	"as it is":     func(*pgx.ConnConfig) {},
	"no tracer":    func(c *pgx.ConnConfig) { c.Tracer = nil },
	"other tracer": func(c *pgx.ConnConfig) { c.Tracer = new(countingTracer) },
	"no OnPgError": func(c *pgx.ConnConfig) { c.OnPgError = nil },
	"no time-out":  func(c *pgx.ConnConfig) { c.ConnectTimeout = 0 },
	"own OnNotice": func(c *pgx.ConnConfig) { c.OnNotice = nil },
	"own LookupFunc": func(c *pgx.ConnConfig) {
		c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	},
}

// Clones outlive silence and the managed pool, and leave its books alone.
func TestPostgresClonesBehaveAsWithoutUs(t *testing.T) {
	for way, clone := range ways {
		for name, change := range changes {
			t.Run(way+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, _ := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) { c.MaxOpen = 1 })
					ping := clone(t.Context(), t, p.Pool(), change)
					if err := ping(t.Context()); err != nil {
						t.Fatal(err)
					}
					dials := p.Stats().Dials
					time.Sleep(time.Minute)
					for range 3 {
						if err := ping(t.Context()); err != nil {
							t.Errorf("after a minute: %v", err)
						}
					}
					if st := p.Stats(); st.Dials != dials || st.InUse != 0 || st.Open > 1 {
						t.Errorf("the managed pool's books: %+v", st)
					}
					stop(t, p)
					if err := ping(t.Context()); err != nil {
						t.Errorf("after the managed pool has stopped: %v", err)
					}
				})
			})
		}
	}
}

// All connections of a clone in use are none of the managed pool's.
func TestPostgresCloneIsNotInTheBooks(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{MaxOpen: 1, AcquireTimeout: 5 * time.Second})
	clone, err := pgxpool.NewWithConfig(t.Context(), p.Pool().Config())
	if err != nil {
		t.Fatal(err)
	}
	defer clone.Close()
	held, err := clone.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	if st := p.Stats(); st.InUse != 0 || len(p.Holders()) != 0 {
		t.Errorf("%+v, holders %v", st, p.Holders())
	}
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("the managed pool: %v", err)
	}
	stop(t, p)
	if _, err := held.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("the clone after the managed pool has stopped: %v", err)
	}
}

// A clone goes where its configuration says.
func TestPostgresCloneForAnotherDatabaseGoesThere(t *testing.T) {
	p, _ := startPG(t, sqlpool.PostgresConfig{})
	admin := sqltest.Postgres(t, testserver.SharedPostgres(t))
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	if _, err := admin.Exec(t.Context(), "create role clone login"); err != nil {
		t.Fatal(err)
	}
	conn, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]*pgx.ConnConfig{"Pool.Config": p.Pool().Config().ConnConfig, "Conn.Config": conn.Conn().Config()}
	conn.Release()
	for name, cc := range configs {
		cc.Database, cc.User, cc.RuntimeParams["search_path"] = "template1", "clone", "elsewhere"
		c := p.Pool().Config()
		c.ConnConfig = cc
		clone, err := pgxpool.NewWithConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		var db, user, path string
		err = clone.QueryRow(t.Context(), "select current_database(), current_user, current_setting('search_path')").Scan(&db, &user, &path)
		if err != nil || db != "template1" || user != "clone" || path != "elsewhere" {
			t.Errorf("%s: at %s as %s, search_path %s: %v", name, db, user, path, err)
		}
		clone.Close()
	}
}

// A clone of a pool with Credentials logs in by them, unless it was given a login of its own.
func TestPostgresCloneAsksCredentials(t *testing.T) {
	var users atomic.Value
	p := pgFake(t, sqlpool.PostgresConfig{
		Credentials: func(context.Context) (string, string, error) { return "rotated", "secret", nil },
		Configure: func(c *pgxpool.Config) error {
			c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { users.Store(c.User); return nil }
			return nil
		},
	})
	for want, change := range map[string]func(*pgx.ConnConfig){
		"rotated": func(*pgx.ConnConfig) {},
		"own":     func(c *pgx.ConnConfig) { c.User = "own" },
	} {
		c := p.Pool().Config()
		change(c.ConnConfig)
		clone, err := pgxpool.NewWithConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := clone.Exec(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		if got := users.Load(); got != want {
			t.Errorf("logged in as %v, want %s", got, want)
		}
		clone.Close()
	}
}

// A tracer that the user's BeforeConnect sets traces, and the pool's own works beside it.
func TestPostgresTracerOfBeforeConnectTraces(t *testing.T) {
	tracer := new(countingTracer)
	p := pgFake(t, sqlpool.PostgresConfig{Configure: func(c *pgxpool.Config) error {
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { c.Tracer = tracer; return nil }
		return nil
	}})
	if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if st := p.Stats(); tracer.queries.Load() != 1 || tracer.connects.Load() != 1 || st.Dials != 1 || st.Open != 1 {
		t.Errorf("traced %d queries, %d dials; the pool: %+v", tracer.queries.Load(), tracer.connects.Load(), st)
	}
}

// A cancel request that pgconn makes outside pgx's calls is bounded too; another connection is not.
func TestPostgresCancelRequestOfPgConnIsBounded(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	var open atomic.Int64
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{Configure: counting(&open), CloseGrace: 100 * time.Millisecond})
	c, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.Freeze(t)
	defer srv.Thaw(t)
	_, err = c.Conn().PgConn().Exec(within(t, 50*time.Millisecond), "select 1").ReadAll()
	if err == nil {
		t.Error("a frozen server has answered")
	}
	c.Release()
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d sockets are open after Stop", n)
	}
}
