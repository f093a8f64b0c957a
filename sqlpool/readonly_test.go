package sqlpool_test

import (
	"context"
	"database/sql"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// kindsHeard counts what an observer hears, by kind.
type kindsHeard struct {
	mu sync.Mutex // guards the following
	n  map[health.Kind]int
}

func (k *kindsHeard) Observe(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == nil {
		k.n = map[health.Kind]int{}
	}
	k.n[sqlpool.Classify(err).Kind]++
}

func (k *kindsHeard) of(kind health.Kind) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n[kind]
}

// pgWrites are the ways to write through a *pgxpool.Pool.
//

var pgWrites = map[string]func(ctx context.Context, p *sqlpool.Postgres) error{
	"a query with arguments": func(ctx context.Context, p *sqlpool.Postgres) error {
		_, err := p.Pool().Exec(ctx, "insert into t values ($1)", 1)
		return err
	},
	"the simple protocol": func(ctx context.Context, p *sqlpool.Postgres) error {
		_, err := p.Pool().Exec(ctx, "insert into t values (1)", pgx.QueryExecModeSimpleProtocol)
		return err
	},
	"the second statement of PgConn().Exec": func(ctx context.Context, p *sqlpool.Postgres) error {
		return p.Pool().AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			_, err := c.Conn().PgConn().Exec(ctx, "select 1; insert into t values (1)").ReadAll()
			return err
		})
	},
	"rows that nobody asks for an error": func(ctx context.Context, p *sqlpool.Postgres) error {
		rows, err := p.Pool().Query(ctx, "insert into t values (1) returning n")
		if err == nil {
			rows.Close()
		}
		return rows.Err()
	},
	"a batch": func(ctx context.Context, p *sqlpool.Postgres) error {
		b := new(pgx.Batch)
		b.Queue("select 1")
		b.Queue("insert into t values (1)")
		return p.Pool().SendBatch(ctx, b).Close()
	},
	"COPY": func(ctx context.Context, p *sqlpool.Postgres) error {
		_, err := p.Pool().CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
		return err
	},
	"a transaction": func(ctx context.Context, p *sqlpool.Postgres) error {
		return pgx.BeginFunc(ctx, p.Pool(), func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into t values (1)")
			return err
		})
	},
	"a statement that was prepared": func(ctx context.Context, p *sqlpool.Postgres) error {
		return p.Pool().AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			if _, err := c.Conn().Prepare(ctx, "write", "insert into t values ($1)"); err != nil {
				return err
			}
			_, err := c.Exec(ctx, "write", 1)
			return err
		})
	},
	"the *sql.DB": func(ctx context.Context, p *sqlpool.Postgres) error {
		_, err := p.DB().ExecContext(ctx, "insert into t values (1)")
		return err
	},
}

func TestReadOnlyRefusalIsHeardOnEveryPath(t *testing.T) {
	testkit.Slow(t)
	primary := testserver.Postgres(t)
	sqltest.Exec(t, primary, "create table t (n int)")
	standby := testserver.PostgresStandby(t, primary)
	eventually(t, "the table has been streamed", func() bool { return exists(t, standby, "t") })
	onStandby := maps.Clone(pgWrites)
	onStandby["what a standby calls not supported"] = func(ctx context.Context, p *sqlpool.Postgres) error {
		return pgx.BeginTxFunc(ctx, p.Pool(), pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select 1")
			return err
		})
	}
	for _, where := range []struct {
		name   string
		srv    *testserver.Server
		writes map[string]func(context.Context, *sqlpool.Postgres) error
		params map[string]string
	}{
		{"standby", standby, onStandby, nil},
		{"default_transaction_read_only", primary, pgWrites, map[string]string{"default_transaction_read_only": "on"}},
	} {
		for name, write := range where.writes {
			t.Run(where.name+"/"+name, func(t *testing.T) {
				var asked kindsHeard // by the user's own hook
				p, heard := observedPostgres(t, where.srv.URL(), func(c *pgxpool.Config) error {
					c.ConnConfig.OnPgError = func(_ *pgconn.PgConn, e *pgconn.PgError) bool {
						asked.Observe(e)
						return true
					}
					maps.Copy(c.ConnConfig.RuntimeParams, where.params)
					return nil
				})
				if err := write(t.Context(), p); err == nil {
					t.Fatal("the write was accepted")
				}
				if got := asked.of(health.KindReadOnly) + asked.of(health.KindUnknown); got != 1 {
					t.Errorf("the user's OnPgError heard %d refusals", got)
				}
				if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
					t.Error(err)
				}
				eventually(t, "the connection is thrown away", func() bool { return p.Stats().Evicted["failover"] > 0 })
				if got := heard.of(health.KindReadOnly) + heard.of(health.KindUnknown); got != 1 {
					t.Errorf("the observer heard %d refusals", got)
				}
			})
		}
	}
	t.Run("a session that asked for it", func(t *testing.T) {
		p, heard := observedPostgres(t, primary.URL(), nil)
		err := pgx.BeginTxFunc(t.Context(), p.Pool(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "insert into t values (1)")
			return err
		})
		if sqltest.State(err) != "25006" || p.Stats().Evicted["failover"] > 0 || heard.of(health.KindReadOnly) > 0 {
			t.Errorf("%v; evicted %v, heard %v", err, p.Stats().Evicted, heard.n)
		}
	})
}

func observedPostgres(t *testing.T, url string, configure func(*pgxpool.Config) error) (*sqlpool.Postgres, *kindsHeard) {
	t.Helper()
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 2, Logger: quiet(), Configure: configure})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	heard := new(kindsHeard)
	p.ObserveWith(heard)
	return p, heard
}

func exists(t *testing.T, s *testserver.Server, table string) bool {
	t.Helper()
	c := sqltest.Postgres(t, s)
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	var there bool
	err := c.QueryRow(t.Context(), "select to_regclass($1) is not null", table).Scan(&there)
	return err == nil && there
}

// A server that is no standby says "not supported" of what it does not know.
func TestNotSupportedIsNoRefusalOfAPrimary(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("insert into t values (1)", sqlpooltest.Answer{})
	srv.FailQueries("0A000", "not yet")
	p, heard := observedPostgres(t, srv.URL(), nil)
	if _, err := p.Pool().Exec(t.Context(), "insert into t values (1)"); sqltest.State(err) != "0A000" {
		t.Fatal(err)
	}
	if p.Stats().Evicted["failover"] > 0 || len(heard.n) > 1 {
		t.Errorf("evicted %v, heard %v", p.Stats().Evicted, heard.n)
	}
}

// "Cannot connect now" is what a server says that starts, recovers, or is a standby without
// hot_standby.
func TestCannotConnectNowIsAFaultOfDialling(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	srv.RefuseLogins("57P03", "the database system is not accepting connections")
	p, heard := observedPostgres(t, srv.URL(), nil)
	_, err := p.Pool().Exec(t.Context(), "insert into t values (1)")
	if sqlpool.Classify(err).Kind != health.KindStarting || heard.of(health.KindStarting) == 0 || p.Stats().DialErrors != 1 {
		t.Errorf("%v; heard %v, %d dials failed", err, heard.n, p.Stats().DialErrors)
	}
}

// pgx's driver below NewDB tells of the server's state what pgxpool's connections tell.
func TestReadOnlyRefusalOfAStandbyIsHeardByNewDB(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("insert into t values (1)", sqlpooltest.Answer{})
	srv.Answer("select 1", sqlpooltest.Answer{})
	srv.Standby(0)
	native, err := pgx.ParseConfig(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	p, err := sqlpool.NewDB(stdlib.GetConnector(*native), sqlpool.DBConfig{MaxOpen: 2, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	heard := new(kindsHeard)
	p.ObserveWith(heard)
	if _, err := p.DB().ExecContext(t.Context(), "insert into t values (1)"); sqltest.State(err) != "25006" {
		t.Fatal(err)
	}
	if _, err := p.DB().ExecContext(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	eventually(t, "the connection is thrown away", func() bool { return p.Stats().Evicted["failover"] > 0 })
	if heard.of(health.KindReadOnly) != 1 {
		t.Errorf("heard %v", heard.n)
	}
}

func TestReadOnlyRefusalOfMariaDBIsHeardOnEveryPath(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t)
	admin, err := sql.Open("mysql", srv.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	for _, q := range []string{
		"create table t (n int) engine=innodb", "create user app identified by 'x'", "grant all on test.* to app", "set global read_only = 1",
	} {
		if _, err := admin.ExecContext(t.Context(), q); err != nil {
			t.Fatal(q, err)
		}
	}
	dsn := strings.Replace(srv.DSN(), "root@", "app:x@", 1) + "?multiStatements=true"
	for name, write := range map[string]func(ctx context.Context, db *sql.DB) error{
		"Exec": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "insert into t values (1)")
			return err
		},
		"Exec with arguments": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "insert into t values (?)", 1)
			return err
		},
		"a later result of Exec": func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "do 1; insert into t values (1)")
			return err
		},
		"Query": func(ctx context.Context, db *sql.DB) error {
			return scanOne(db.QueryContext(ctx, "insert into t values (1) returning n"))
		},
		"a statement in a transaction": func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			s, err := tx.PrepareContext(ctx, "insert into t values (?)")
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			_, err = s.ExecContext(ctx, 1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: dsn, MaxOpen: 2, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Abort() })
			heard := new(kindsHeard)
			p.ObserveWith(heard)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := write(ctx, p.DB()); sqlpool.Classify(err).Kind != health.KindReadOnly {
				t.Fatalf("the write: %v", err)
			}
			if _, err := p.DB().ExecContext(ctx, "do 1"); err != nil {
				t.Error(err)
			}
			eventually(t, "the connection is thrown away", func() bool { return p.Stats().Evicted["failover"] > 0 })
			if heard.of(health.KindReadOnly) != 1 {
				t.Errorf("heard %v", heard.n)
			}
		})
	}
}

func scanOne(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	rows.Next()
	return rows.Err()
}
