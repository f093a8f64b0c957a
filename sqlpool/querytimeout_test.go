package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

const queryTimeout = 3 * time.Second

// A connection that has just been opened, and leads nowhere, must not hold up a caller without a
// deadline for ever.
func TestQueryTimeoutEndsStatementsOnAConnectionThatLeadsNowhere(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{QueryTimeout: queryTimeout, FailFastAfter: poolkeeper.Off}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Answer("work", sqlpooltest.Answer{})
		for name, work := range map[string]func(ctx context.Context) error{
			"exec":     func(ctx context.Context) error { return p.exec(ctx, "work") },
			"begin":    func(ctx context.Context) error { return p.tx(ctx, n, "begin") },
			"commit":   func(ctx context.Context) error { return p.tx(ctx, n, "commit") },
			"rollback": func(ctx context.Context) error { return p.tx(ctx, n, "rollback") },
		} {
			n.heal()
			for range 2 { // pgx pings a connection at its first check-out
				if err := p.exec(t.Context(), "work"); err != nil {
					t.Fatalf("%s: before: %v", name, err)
				}
			}
			if name == "exec" || name == "begin" {
				n.lost.Store(true)
			}
			start := time.Now()
			err := work(t.Context())
			if took := time.Since(start); took != queryTimeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v after %v, want a deadline after %v", name, err, took, queryTimeout)
			}
		}
		n.heal()
		advance(time.Minute)
		if st := p.managed.Stats(); st.InUse != 0 {
			t.Errorf("%+v", st)
		}

		// A transaction may last for longer than its statements.
		if err := p.tx(t.Context(), n, ""); err != nil {
			t.Errorf("a long transaction: %v", err)
		}

		// One of its own counts, however long.
		srv.Slow(10 * queryTimeout)
		if err := p.exec(within(t, time.Hour), "work"); err != nil {
			t.Errorf("under a deadline of its own: %v", err)
		}
		if err := p.exec(t.Context(), "work"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a slow statement: %v", err)
		}
	})
}

func TestQueryTimeoutLastsToTheEndOfTheRows(t *testing.T) {
	testkit.Slow(t)
	pg, my := testserver.Postgres(t), testserver.MariaDB(t)
	cfg := sqlpool.MySQLConfig{QueryTimeout: 500 * time.Millisecond, Logger: quiet(), MaxOpen: 2}
	pgPool, _ := pgFor(t, pg, like[sqlpool.PostgresConfig](cfg))
	cfg.URL = my.URL()
	myPool, err := sqlpool.NewMySQL(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, myPool) })

	for name, x := range map[string]struct {
		db          *sql.DB
		many, sleep string
	}{
		"mysql":        {myPool.DB(), "select seq from seq_1_to_100000000", "select sleep(20)"},
		"pgx, pgxpool": {pgPool.DB(), "select generate_series(1, 100000000)", "select pg_sleep(20)"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := count(t.Context(), x.db, x.many)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d rows, then %v", n, err)
			}
			if _, err := x.db.ExecContext(t.Context(), x.sleep); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("slow: %v", err)
			}
		})
	}

	t.Run("pgxpool", func(t *testing.T) {
		var batch pgx.Batch
		batch.Queue("select pg_sleep(20)")
		if err := pgPool.Pool().SendBatch(t.Context(), &batch).Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("batch: %v", err)
		}
		rows, err := pgPool.Pool().Query(t.Context(), "select generate_series(1, 100000000)")
		for rows.Next() {
		}
		if err = errors.Join(err, rows.Err()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("rows: %v", err)
		}
		c, err := pgPool.Pool().Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		ctx := within(t, time.Second)
		if _, err := c.Exec(t.Context(), "listen x"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := c.Conn().WaitForNotification(ctx); err == nil || time.Since(begun) < time.Second/2 {
			t.Errorf("a wait for notifications was bounded: %v after %v", err, time.Since(begun))
		}
	})
}

// count reads all rows of a query. On a slow machine it may fail before the first one.
func count(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func TestQueryTimeoutSaysSoAndIsNotRetried(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{QueryTimeout: queryTimeout}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		if p.db == nil {
			t.Skip("pgx's own words")
		}
		srv.Answer("work", sqlpooltest.Answer{})
		err := p.tx(t.Context(), n, "commit")
		if err == nil || !strings.Contains(err.Error(), "QueryTimeout of 3s") {
			t.Error(err)
		}
		if n := p.managed.Stats().Dials; n != 1 {
			t.Errorf("%d connections were opened", n)
		}
	})
}
