package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

const (
	accounts = 10
	callers  = 8
	initial  = int64(1000) // of each account
)

// managed is a pool with a *sql.DB.
type managed interface {
	lifecycle.Component
	DB() *sql.DB
	Stats() poolkeeper.Stats
}

// handle is one way to a managed *sql.DB.
type handle struct {
	name  string
	mysql bool
	pool  func(testing.TB, *testserver.Server) (managed, error)
}

func handles() []handle {
	const half = callers / 2 // callers have to wait for each other
	return []handle{
		{"MariaDB", true, func(_ testing.TB, s *testserver.Server) (managed, error) {
			return sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: s.URL(), MaxOpen: half, MinIdle: 1, Logger: silent()})
		}},
		{"PostgreSQL over pgxpool", false, func(_ testing.TB, s *testserver.Server) (managed, error) {
			return sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: s.URL(), MaxOpen: half, MinIdle: 1, Logger: silent()})
		}},
		{"PostgreSQL by pgx stdlib", false, func(tb testing.TB, s *testserver.Server) (managed, error) {
			tb.Helper()
			native, err := pgx.ParseConfig(s.URL())
			if err != nil {
				return nil, err
			}
			return sqlpool.NewDB(stdlib.GetConnector(*native), sqlpool.DBConfig{MaxOpen: half, MinIdle: 1, Logger: silent()})
		}},
	}
}

// banks are the libraries, for one kind of server.
func banks(mysql bool) map[string]bank {
	if mysql {
		return map[string]bank{
			"GORM": &gormBank{mysql: true}, "sqlx": &sqlxBank{driver: "mysql"}, "sqlc": &sqlcBank{prepare: prepareMySQL},
		}
	}
	return map[string]bank{
		"GORM": &gormBank{}, "sqlx": &sqlxBank{driver: "pgx"}, "sqlc": &sqlcBank{prepare: preparePostgres},
	}
}

// Each library works on each handle through start, work, drain under load and stop: work that was
// begun is finished, what comes after is refused and gets no other error, no money is lost, and
// nothing is left on the server.
func TestLibrariesWorkOnManagedHandles(t *testing.T) { // INV-8, INV-9
	for _, h := range handles() {
		t.Run(h.name, func(t *testing.T) {
			for name, b := range banks(h.mysql) {
				t.Run(name, func(t *testing.T) { libraryWorks(t, h, b) })
			}
		})
	}
}

func libraryWorks(t *testing.T, h handle, b bank) {
	t.Helper()
	look, srv := admin(t, h.mysql)
	pool, err := h.pool(t, srv)
	if err != nil {
		t.Fatal(err)
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: patience, Logger: silent()})
	reg.Add("db", pool)
	reg.Add("library", lifecycle.Hooks{
		OnStart: func(ctx context.Context) error { return errors.Join(b.open(ctx, pool.DB()), b.create(ctx)) },
		OnStop:  func(context.Context) error { return nil },
	}, lifecycle.WithDependencies("db"))
	t.Cleanup(func() {
		_ = reg.Shutdown(within(t, patience)) // done already, unless the test failed
		if _, err := look.ExecContext(within(t, patience), "DROP TABLE IF EXISTS accounts"); err != nil {
			t.Error(err)
		}
	})
	if err := reg.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for id := range int64(accounts) {
		if err := b.add(within(t, patience), account{ID: id, Owner: fmt.Sprint("owner ", id), Balance: initial}); err != nil {
			t.Fatal(err)
		}
	}
	var transfers atomic.Int64
	var load sync.WaitGroup
	for n := range int64(callers) {
		load.Go(func() {
			err := work(within(t, patience), b, n, &transfers)
			if !refused(err) {
				t.Errorf("caller %d ended with: %v", n, err)
			}
		})
	}
	eventually(t, "100 transfers", func() bool { return transfers.Load() >= 100 })
	if err := reg.Shutdown(within(t, patience)); err != nil {
		t.Errorf("shutdown under load: %v", err)
	}
	load.Wait()
	if err := b.close(); err != nil {
		t.Errorf("closing the library: %v", err)
	}
	nothingLeft(t, look, h.mysql)
	var sum int64
	if err := look.QueryRowContext(within(t, patience), "SELECT SUM(balance) FROM accounts").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != accounts*initial {
		t.Errorf("the accounts have %d in all, want %d", sum, accounts*initial)
	}
	if s := pool.Stats(); s.Open != 0 || s.InUse != 0 || s.Leaks != 0 {
		t.Errorf("after the shutdown: %+v", s)
	}
}

// refused says whether err is what new work gets during and after a shutdown. Once Stop has closed
// the *sql.DB the answer is that of database/sql, which exports no name for it.
func refused(err error) bool {
	return errors.Is(err, poolkeeper.ErrDraining) || errors.Is(err, poolkeeper.ErrClosed) || err.Error() == "sql: database is closed"
}

// work transfers and reads until something fails.
func work(ctx context.Context, b bank, n int64, transfers *atomic.Int64) error {
	for {
		from, to := n%accounts, (n+3)%accounts
		if err := b.transfer(ctx, from, to, 1); err != nil {
			return err
		}
		transfers.Add(1)
		if a, err := b.get(ctx, from); err != nil {
			return err
		} else if a.ID != from || a.Owner != fmt.Sprint("owner ", from) {
			return fmt.Errorf("account %d is %+v", from, a)
		}
		all, err := b.list(ctx)
		if err != nil {
			return err
		}
		var sum int64
		for _, a := range all {
			sum += a.Balance
		}
		if len(all) != accounts || sum != accounts*initial {
			return fmt.Errorf("%d accounts with %d in all, want %d with %d", len(all), sum, accounts, accounts*initial)
		}
		n++
	}
}

// admin is a raw handle for looking at the shared server.
func admin(tb testing.TB, mysql bool) (*sql.DB, *testserver.Server) {
	tb.Helper()
	if !mysql {
		srv := testserver.SharedPostgres(tb)
		return adminPostgres(tb, srv), srv
	}
	srv := testserver.SharedMariaDB(tb)
	cfg, err := gomysql.ParseDSN(srv.DSN())
	if err != nil {
		tb.Fatal(err)
	}
	connector, err := gomysql.NewConnector(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return alone(tb, sql.OpenDB(connector)), srv
}

// adminPostgres is a raw handle for looking at srv.
func adminPostgres(tb testing.TB, srv *testserver.Server) *sql.DB {
	tb.Helper()
	cfg, err := pgx.ParseConfig(srv.URL())
	if err != nil {
		tb.Fatal(err)
	}
	return alone(tb, stdlib.OpenDB(*cfg))
}

// alone gives db one connection, until the end of the test.
func alone(tb testing.TB, db *sql.DB) *sql.DB {
	tb.Helper()
	db.SetMaxOpenConns(1)
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// nothingLeft demands that the server has no connection but the one that asks.
func nothingLeft(tb testing.TB, look *sql.DB, mysql bool) {
	tb.Helper()
	others := "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"
	if mysql {
		others = "select count(*) from information_schema.processlist where id <> connection_id() and user = 'root'"
	}
	eventually(tb, "no connection is left on the server", func() bool {
		var n int
		if err := look.QueryRowContext(within(tb, patience), others).Scan(&n); err != nil {
			tb.Fatal(err)
		}
		return n == 0
	})
}
