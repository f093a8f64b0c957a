package outage_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

const maxOpen = 10

// subject is one way for a service to reach its server.
type subject struct {
	call  func(ctx context.Context) error
	dials *atomic.Int64 // attempts to open a connection so far
}

// library is a client library, by itself and under a managed pool.
type library struct {
	name    string
	server  func(tb testing.TB, args ...string) *testserver.Server
	args    []string // with them it grants some 20 connections
	hog     func(ctx context.Context, srv *testserver.Server) (free func(), err error)
	raw     func(tb testing.TB, addr string) subject
	managed func(tb testing.TB, addr string) subject
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// counted counts the calls of a dial function.
func counted(n *atomic.Int64, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return dial(ctx, network, addr)
	}
}

func libraries() []library {
	return []library{
		{
			name:   "Redis",
			server: testserver.Redis, args: []string{"--maxclients", "20"},
			hog: hogRedis, raw: rawRedis, managed: managedRedis,
		},
		{
			name:   "PostgreSQL, pgxpool",
			server: testserver.Postgres, args: []string{"max_connections=20"},
			hog: hogPostgres, raw: rawPGX, managed: managedPGX,
		},
		{
			name:   "MariaDB, database/sql",
			server: testserver.MariaDB, args: []string{"--max-connections=20"},
			hog: hogMariaDB, raw: rawMySQL, managed: managedMySQL,
		},
	}
}

func rawRedis(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	o := &redis.Options{Addr: addr, PoolSize: maxOpen, ContextTimeoutEnabled: true}
	o.Dialer = counted(s.dials, redis.NewDialer(o))
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	s.call = func(ctx context.Context) error { return c.Set(ctx, "key", "value", 0).Err() }
	return s
}

func managedRedis(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	o := &redis.UniversalOptions{Addrs: []string{addr}}
	o.Dialer = counted(s.dials, (&net.Dialer{Timeout: redispool.DefaultDialTimeout}).DialContext)
	p, err := redispool.New(redispool.Config{Options: o, MaxOpen: maxOpen, Start: poolkeeper.StartDegraded, Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	manage(tb, p)
	s.call = func(ctx context.Context) error { return p.Client().Set(ctx, "key", "value", 0).Err() }
	return s
}

func rawPGX(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	cfg, err := pgxpool.ParseConfig(pgURL(addr))
	if err != nil {
		tb.Fatal(err)
	}
	cfg.MaxConns = maxOpen
	cfg.ConnConfig.DialFunc = counted(s.dials, cfg.ConnConfig.DialFunc)
	p, err := pgxpool.NewWithConfig(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	s.call = func(ctx context.Context) error { _, err := p.Exec(ctx, "select 1"); return err }
	return s
}

func managedPGX(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: pgURL(addr), MaxOpen: maxOpen, Start: poolkeeper.StartDegraded, Logger: quiet(),
		Configure: func(c *pgxpool.Config) error {
			c.ConnConfig.DialFunc = counted(s.dials, c.ConnConfig.DialFunc)
			return nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	manage(tb, p)
	s.call = func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err }
	return s
}

func rawMySQL(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", addr, "root", "test"
	cfg.DialFunc = counted(s.dials, new(net.Dialer).DialContext)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(maxOpen)
	db.SetMaxIdleConns(maxOpen)
	tb.Cleanup(func() { _ = db.Close() })
	s.call = func(ctx context.Context) error { _, err := db.ExecContext(ctx, "do 1"); return err }
	return s
}

func managedMySQL(tb testing.TB, addr string) subject {
	tb.Helper()
	s := subject{dials: new(atomic.Int64)}
	p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{
		URL: "root@tcp(" + addr + ")/test", MaxOpen: maxOpen, Start: poolkeeper.StartDegraded, Logger: quiet(),
		Configure: func(c *mysql.Config) error {
			c.DialFunc = counted(s.dials, new(net.Dialer).DialContext)
			return nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	manage(tb, p)
	s.call = func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "do 1"); return err }
	return s
}

// manage starts a pool, and stops it when the test ends.
func manage(tb testing.TB, p interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
},
) {
	tb.Helper()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			tb.Error(err)
		}
	})
	if err := p.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func pgURL(addr string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: addr, Path: "postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
