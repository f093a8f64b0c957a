package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// A burst is far more callers at once than a pool can serve before their deadlines.
const (
	burstCallers  = 500
	burstOpen     = 10
	burstDeadline = 100 * time.Millisecond
	burstRounds   = 5
)

// burster makes a pool, raw or managed, and returns how a caller uses it.
type burster func(b *testing.B, managed *sqlpool.PostgresConfig) func(context.Context) error

// BenchmarkBurst counts how many of 500 callers with 10 connections and 100 ms get an answer of a
// server that takes 10 ms for it, raw beside managed in turns: POOLKEEPER_MEASURE=1 go test -bench
// Burst -benchtime 1x -run - ./sqlpool.
func BenchmarkBurst(b *testing.B) {
	pg, my := testserver.Postgres(b, "max_connections=300"), testserver.MariaDB(b, "--max-connections=300")
	for _, x := range []struct {
		name string
		make burster
	}{{"pgxpool", pgxBurst(pg.URL())}, {"pgx", pgxDBBurst(pg.URL())}, {"mariadb", mysqlBurst(my.DSN(), my.URL())}} {
		for _, v := range burstVariants(x.name) {
			b.Run(fmt.Sprintf("%s/dials%d,grace%v", x.name, v.MaxDials, v.CloseGrace), func(b *testing.B) {
				for b.Loop() {
					raw, managed := alternate(b, x.make, v)
					b.ReportMetric(float64(raw), "raw")
					b.ReportMetric(float64(managed), "managed")
					b.ReportMetric(float64(managed)/float64(raw), "ratio")
					b.ReportMetric(0, "ns/op")
				}
			})
		}
	}
}

// burstVariants are the settings to be compared; without POOLKEEPER_MEASURE the defaults alone.
func burstVariants(pool string) []sqlpool.PostgresConfig {
	base := sqlpool.PostgresConfig{MaxOpen: burstOpen, Logger: quiet()}
	if !testkit.Measuring() {
		return []sqlpool.PostgresConfig{base}
	}
	var out []sqlpool.PostgresConfig
	for _, dials := range []int{4, 10} {
		graces := []time.Duration{0}
		if pool == "pgxpool" {
			graces = []time.Duration{0, poolkeeper.Off}
		}
		for _, grace := range graces {
			v := base
			v.MaxDials, v.CloseGrace = dials, grace
			out = append(out, v)
		}
	}
	return out
}

// alternate runs bursts on a raw and a managed pool in turns, and counts the answers.
func alternate(b *testing.B, make burster, v sqlpool.PostgresConfig) (raw, managed int64) {
	b.Helper()
	calls := []func(context.Context) error{make(b, nil), make(b, &v)}
	counts := []*int64{&raw, &managed}
	for i := range 2 * burstRounds {
		which := (i + i/2) % 2 // raw, managed, managed, raw, …
		*counts[which] += overload(b.Context(), calls[which])
		pass(300 * time.Millisecond)
	}
	return raw, managed
}

func overload(ctx context.Context, call func(context.Context) error) int64 {
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range burstCallers {
		wg.Go(func() {
			in, cancel := context.WithTimeout(ctx, burstDeadline)
			defer cancel()
			if call(in) == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return ok.Load()
}

func pgxBurst(url string) burster {
	return func(b *testing.B, managed *sqlpool.PostgresConfig) func(context.Context) error {
		b.Helper()
		var pool *pgxpool.Pool
		if managed == nil {
			config, err := pgxpool.ParseConfig(url)
			if err != nil {
				b.Fatal(err)
			}
			config.MaxConns = burstOpen
			if pool, err = pgxpool.NewWithConfig(b.Context(), config); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(pool.Close)
		} else {
			cfg := *managed
			cfg.URL = url
			p, err := sqlpool.NewPostgres(cfg)
			if err != nil {
				b.Fatal(err)
			}
			stopLater(b, p)
			pool = p.Pool()
		}
		return func(ctx context.Context) error { _, err := pool.Exec(ctx, "select pg_sleep(0.01)"); return err }
	}
}

func pgxDBBurst(url string) burster {
	return func(b *testing.B, managed *sqlpool.PostgresConfig) func(context.Context) error {
		b.Helper()
		config, err := pgx.ParseConfig(url)
		if err != nil {
			b.Fatal(err)
		}
		if managed != nil {
			p, err := sqlpool.NewDB(stdlib.GetConnector(*config), like[sqlpool.DBConfig](*managed))
			if err != nil {
				b.Fatal(err)
			}
			stopLater(b, p)
			return dbBurst(p.DB(), "select pg_sleep(0.01)")
		}
		return dbBurst(rawBurst(b, stdlib.GetConnector(*config)), "select pg_sleep(0.01)")
	}
}

func mysqlBurst(dsn, url string) burster {
	return func(b *testing.B, managed *sqlpool.PostgresConfig) func(context.Context) error {
		b.Helper()
		native, err := mysql.ParseDSN(dsn)
		if err != nil {
			b.Fatal(err)
		}
		native.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(native)
		if err != nil {
			b.Fatal(err)
		}
		if managed != nil {
			cfg := like[sqlpool.MySQLConfig](*managed)
			cfg.URL = url
			p, err := sqlpool.NewMySQL(cfg)
			if err != nil {
				b.Fatal(err)
			}
			stopLater(b, p)
			return dbBurst(p.DB(), "do sleep(0.01)")
		}
		return dbBurst(rawBurst(b, connector), "do sleep(0.01)")
	}
}

func rawBurst(b *testing.B, connector driver.Connector) *sql.DB {
	b.Helper()
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(burstOpen)
	db.SetMaxIdleConns(burstOpen)
	b.Cleanup(func() { _ = db.Close() })
	return db
}

func dbBurst(db *sql.DB, query string) func(context.Context) error {
	return func(ctx context.Context) error { _, err := db.ExecContext(ctx, query); return err }
}
