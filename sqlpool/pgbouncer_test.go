package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// bounced starts a pool that reaches PostgreSQL through pgbouncer in transaction mode, and tells
// how many of its connections pgbouncer has.
func bounced(t *testing.T, cfg sqlpool.PostgresConfig, settings ...string) (*sqlpool.Postgres, *testserver.Server, func() int) {
	t.Helper()
	srv := testserver.PgBouncer(t, testserver.SharedPostgres(t), settings...)
	// What every client must ask of pgx there: sessions are others' between transactions, and so
	// are prepared statements.
	cfg.URL = srv.URL() + "&default_query_exec_mode=exec"
	p, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, srv, func() int {
		console, err := pgx.Connect(t.Context(), strings.Replace(srv.URL(), "/postgres?", "/pgbouncer?default_query_exec_mode=simple_protocol&", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = console.Close(context.WithoutCancel(t.Context())) }()
		rows, err := console.Query(t.Context(), "show clients")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			v, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range rows.FieldDescriptions() {
				if f.Name == "database" && v[i] == "postgres" {
					n++
				}
			}
		}
		return n
	}
}

func TestPgBouncerQueriesTransactionsAndLimits(t *testing.T) {
	log, logged := logTo()
	p, _, clients := bounced(t, sqlpool.PostgresConfig{MaxOpen: 8, MinIdle: 2, Instances: 50, Logger: log, AcquireTimeout: 30 * time.Second}, "default_pool_size=3")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				err := pgx.BeginFunc(t.Context(), p.Pool(), func(tx pgx.Tx) error {
					var got int
					if err := tx.QueryRow(t.Context(), "select $1::int", i).Scan(&got); err != nil || got != i {
						t.Error(got, err)
					}
					_, err := tx.Exec(t.Context(), "select set_config('my.caller', $1::text, true)", "x")
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l, err := p.Limits(t.Context())
	if err != nil || !l.Pooled || !l.TransactionMode || !l.Proxied || l.Demand != 9*63 || len(l.Warnings) > 0 {
		t.Errorf("Limits = %+v, %v; want a pooler in between, with which what the server grants is not to be compared", l, err)
	}
	if strings.Contains(logged(), "WARN") {
		t.Errorf("the log has\n%s", logged())
	}
	if n := clients(); n > 9 {
		t.Errorf("%d connections at pgbouncer, want 8 and the check's", n)
	}
	stop(t, p)
	eventually(t, "no connection is left at pgbouncer", func() bool { return clients() == 0 })
}

// INV-8: what is in flight is finished, through a pooler too.
func TestPgBouncerDrain(t *testing.T) {
	p, _, clients := bounced(t, sqlpool.PostgresConfig{MaxOpen: 4, Logger: quiet()})
	tx, err := p.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(within(t, 30*time.Second)) }()
	eventually(t, "new work is refused", func() bool {
		return errors.Is(p.Pool().Ping(t.Context()), poolkeeper.ErrDraining)
	})
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	stop(t, p)
	eventually(t, "no connection is left at pgbouncer", func() bool { return clients() == 0 })
}

// pgbouncer closes clients that are silent for too long, and is restarted: neither costs a query.
func TestPgBouncerRestartCostsNoQueryOfIdleConnections(t *testing.T) {
	p, srv, _ := bounced(t, sqlpool.PostgresConfig{MaxOpen: 4, Logger: quiet()})
	var held []interface{ Release() }
	for range 4 {
		c, err := p.Pool().Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
	srv.Restart(t)
	for range 4 {
		if err := p.Pool().Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop(t, p)
}

// pgx's default, statements that it prepares once for each connection, does not work behind a
// pooler in transaction mode: the log says so when the pool starts, and each error what to set.
func TestPgBouncerInTransactionModeIsNamedWithItsRemedy(t *testing.T) {
	for mode, level := range map[string]string{"transaction": "WARN", "session": "INFO"} {
		t.Run(mode, func(t *testing.T) {
			log, logged := logTo()
			srv := testserver.PgBouncer(t, testserver.SharedPostgres(t), "pool_mode="+mode, "default_pool_size=3")
			p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: srv.URL(), MaxOpen: 8, Logger: log, AcquireTimeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err = p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer stop(t, p)
			if line := logged(); !strings.Contains(line, "level="+level) || !strings.Contains(line, "kind=pooler") ||
				!strings.Contains(line, "default_query_exec_mode=exec") {
				t.Errorf("the log has\n%s", line)
			}
			l, err := p.Limits(t.Context())
			if err != nil || !l.Pooled || l.TransactionMode != (mode == "transaction") {
				t.Errorf("Limits = %+v, %v", l, err)
			}
			if mode != "transaction" {
				return
			}
			explained := explainedFailures(t, p)
			if explained == 0 {
				t.Error("no error has said what to set")
			}
		})
	}
}

// explainedFailures runs queries on several connections at once until some have lost their prepared
// statements, and returns how many errors have said what to set.
func explainedFailures(t *testing.T, p *sqlpool.Postgres) int {
	t.Helper()
	var explained atomic.Int64
	var once sync.Once
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 40 {
				_, err := p.Pool().Exec(t.Context(), fmt.Sprintf("select $1::int + %d", (i+n)%5), i)
				if err == nil {
					continue
				}
				if strings.Contains(err.Error(), "default_query_exec_mode=exec") {
					explained.Add(1)
				} else {
					once.Do(func() { t.Errorf("not explained: %v", err) })
				}
				if f := sqlpool.Classify(err); !strings.Contains(f.Advice, "default_query_exec_mode=exec") {
					t.Errorf("advice for %v: %s", err, f.Advice)
				}
			}
		})
	}
	wg.Wait()
	return int(explained.Load())
}
