package sqlpool_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// The benchmarks run the raw library and the managed pool in turns; see internal/test/paired. For
// figures that are worth something: -bench Paired -benchtime 40x.
func variants(b *testing.B, raw func() error, managed func(withoutStacks bool) func() error) {
	b.Helper()
	for _, x := range []struct {
		name    string
		without bool
	}{{"stacks", false}, {"no-stacks", true}} {
		op := managed(x.without)
		b.Run(x.name+"/serial", func(b *testing.B) { paired.Run(b, 1, raw, op) })
		b.Run(x.name+"/parallel16", func(b *testing.B) { paired.Run(b, 16, raw, op) })
	}
}

func stopLater(b *testing.B, p interface{ Stop(context.Context) error }) {
	b.Helper()
	b.Cleanup(func() { _ = p.Stop(context.Background()) })
}

func BenchmarkPairedPostgres(b *testing.B) {
	srv := testserver.Postgres(b, "max_connections=300") // every variant keeps its pool until the end
	config, err := pgxpool.ParseConfig(srv.URL())
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns = 16
	bare, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(bare.Close)
	managed := func(withoutStacks bool) *pgxpool.Pool {
		p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: srv.URL(), DisableLeakStacks: withoutStacks, MaxOpen: 16, MaxDials: 16})
		if err != nil {
			b.Fatal(err)
		}
		stopLater(b, p)
		return p.Pool()
	}
	ctx := context.Background()
	for name, op := range map[string]func(*pgxpool.Pool) error{
		"select1": func(p *pgxpool.Pool) error {
			var n int
			return p.QueryRow(ctx, "select 1").Scan(&n)
		},
		"acquire": func(p *pgxpool.Pool) error {
			c, err := p.Acquire(ctx)
			if err == nil {
				c.Release()
			}
			return err
		},
		"rows100": func(p *pgxpool.Pool) error {
			rows, err := p.Query(ctx, "select generate_series(1, 100)")
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return rows.Err()
		},
		"tx": func(p *pgxpool.Pool) error {
			tx, err := p.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "select 1"); err != nil {
				return err
			}
			return tx.Commit(ctx)
		},
	} {
		b.Run(name, func(b *testing.B) {
			variants(b, func() error { return op(bare) }, func(withoutStacks bool) func() error {
				p := managed(withoutStacks)
				return func() error { return op(p) }
			})
		})
	}
}

func BenchmarkPairedMariaDB(b *testing.B) {
	srv := testserver.MariaDB(b, "--max-connections=300")
	bare, err := sql.Open("mysql", srv.DSN())
	if err != nil {
		b.Fatal(err)
	}
	bare.SetMaxOpenConns(16)
	bare.SetMaxIdleConns(16)
	b.Cleanup(func() { _ = bare.Close() })
	pairedDB(b, bare, func(withoutStacks bool) *sql.DB {
		p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: srv.URL(), DisableLeakStacks: withoutStacks, MaxOpen: 16, MaxDials: 16})
		if err != nil {
			b.Fatal(err)
		}
		stopLater(b, p)
		return p.DB()
	}, "select seq from seq_1_to_100")
}

// Without a server: what the pool adds to database/sql itself. The ratio is large because
// database/sql does little.
func BenchmarkPairedFake(b *testing.B) {
	bare := sql.OpenDB(newFakeServer())
	bare.SetMaxOpenConns(16)
	bare.SetMaxIdleConns(16)
	b.Cleanup(func() { _ = bare.Close() })
	pairedDB(b, bare, func(withoutStacks bool) *sql.DB {
		p, err := sqlpool.NewDB(newFakeServer(), sqlpool.DBConfig{DisableLeakStacks: withoutStacks, MaxOpen: 16, MaxDials: 16})
		if err != nil {
			b.Fatal(err)
		}
		stopLater(b, p)
		return p.DB()
	}, "select")
}

func pairedDB(b *testing.B, bare *sql.DB, managed func(withoutStacks bool) *sql.DB, rows100 string) {
	b.Helper()
	ctx := context.Background()
	for name, op := range map[string]func(*sql.DB) error{
		"select1": func(db *sql.DB) error {
			var n int
			return db.QueryRowContext(ctx, "select 1").Scan(&n)
		},
		"acquire": func(db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err == nil {
				err = c.Close()
			}
			return err
		},
		"rows100": func(db *sql.DB) error {
			rows, err := db.QueryContext(ctx, rows100)
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() {
			}
			return rows.Err()
		},
		"tx": func(db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "do 1"); err != nil {
				return err
			}
			return tx.Commit()
		},
	} {
		b.Run(name, func(b *testing.B) {
			variants(b, func() error { return op(bare) }, func(withoutStacks bool) func() error {
				db := managed(withoutStacks)
				return func() error { return op(db) }
			})
		})
	}
}
