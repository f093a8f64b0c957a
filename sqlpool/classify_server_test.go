package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
)

func judge(t *testing.T, err error, want health.Kind) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if got := sqlpool.Classify(err); got.Kind != want || got.Advice == "" {
		t.Errorf("%v: %q (%s), want %q", err, got.Kind, got.Advice, want)
	}
}

func openMySQL(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// What a real PostgreSQL really says, seen through pgx.
func TestClassifyKnowsWhatARealPostgresSays(t *testing.T) {
	srv := testserver.Postgres(t, "max_connections=8", "superuser_reserved_connections=3")
	ctx := within(t, time.Minute)
	admin := sqltest.Postgres(t, srv)
	defer func() { _ = admin.Close(ctx) }()
	for _, s := range []string{"create role reader login password 'sesame'", "create table t (n int)", "select pg_reload_conf()"} {
		if s == "select pg_reload_conf()" {
			hba := "host all reader 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
			if err := os.WriteFile(filepath.Join(srv.Dir(), "data", "pg_hba.conf"), []byte(hba), 0o644); err != nil { //nolint:gosec // no secret
				t.Fatal(err)
			}
		}
		if _, err := admin.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the password is asked for", func() bool {
		c, err := pgx.Connect(ctx, fmt.Sprintf("postgres://reader@%s/postgres", srv.Addr()))
		if err == nil {
			_ = c.Close(ctx)
		}
		return err != nil
	})
	as := func(user, database string) string {
		return fmt.Sprintf("postgres://%s@%s/%s", user, srv.Addr(), database)
	}
	reader := as("reader:sesame", "postgres")
	exec := func(query string) func(*pgx.Conn) error {
		return func(c *pgx.Conn) error { _, err := c.Exec(ctx, query); return err }
	}
	for name, tt := range map[string]struct {
		url  string
		do   func(*pgx.Conn) error
		want health.Kind
	}{
		"a wrong password":         {as("reader:simsalabim", "postgres"), nil, health.KindAuthentication},
		"no such user":             {as("nobody", "postgres"), nil, health.KindAuthentication},
		"no such database":         {as("postgres", "nowhere"), nil, health.KindNotFound},
		"no TLS there":             {as("postgres", "postgres") + "?sslmode=require", nil, health.KindTLS},
		"a user who may not":       {reader, exec("select * from t"), health.KindAuthorization},
		"a read-only transaction":  {srv.URL(), exec("begin read only; insert into t values (1)"), health.KindReadOnly},
		"a statement that is late": {srv.URL(), exec("set statement_timeout = 10; select pg_sleep(10)"), health.KindCanceled},
		"no disk space left":       {srv.URL(), exec("set temp_file_limit = 64; select count(*) from (select generate_series(1, 1000000) n order by n desc) x"), health.KindResources},
		"ended by an administrator": {srv.URL(), func(c *pgx.Conn) error {
			if _, err := admin.Exec(ctx, "select pg_terminate_backend($1)", c.PgConn().PID()); err != nil {
				return err
			}
			_, err := c.Exec(ctx, "select pg_sleep(10)")
			return err
		}, health.KindShuttingDown},
		"too many connections": {reader, func(*pgx.Conn) error {
			for range 8 {
				c, err := pgx.Connect(ctx, reader)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close(ctx) }()
			}
			return nil
		}, health.KindTooManyConnections},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := pgx.Connect(ctx, tt.url)
			if err == nil {
				defer func() { _ = c.Close(ctx) }()
				if tt.do == nil {
					t.Fatal("connected")
				}
				err = tt.do(c)
			}
			judge(t, err, tt.want)
		})
	}
	srv.Kill(t)
	_, err := pgx.Connect(ctx, srv.URL())
	judge(t, err, health.KindRefused)
}

// What a real MariaDB really says, seen through go-sql-driver/mysql.
func TestClassifyKnowsWhatARealMariaDBSays(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t, "--max-connections=10")
	ctx := within(t, time.Minute)
	admin := openMySQL(t, srv.DSN())
	defer func() { _ = admin.Close() }()
	admin.SetMaxIdleConns(1)
	for _, s := range []string{
		"create table t (n int)", "create database hidden", "create table hidden.t (n int)",
		"create user reader@'127.0.0.1' identified by 'sesame'", "grant select on hidden.t to reader@'127.0.0.1'", "create database closed",
		"create user writer@'127.0.0.1' identified by 'sesame' with max_user_connections 1",
		"grant all on test.* to writer@'127.0.0.1'",
	} {
		if _, err := admin.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	as := func(user, database string) string { return user + "@tcp(" + srv.Addr() + ")/" + database }
	exec := func(query string) func(*sql.Conn) error {
		return func(c *sql.Conn) error { _, err := c.ExecContext(ctx, query); return err }
	}
	for name, tt := range map[string]struct {
		dsn  string
		do   func(*sql.Conn) error
		want health.Kind
	}{
		"a wrong password":        {as("reader:simsalabim", "test"), nil, health.KindAuthentication},
		"no such database":        {as("root", "nowhere"), nil, health.KindNotFound},
		"a database out of reach": {as("reader:sesame", "closed"), nil, health.KindAuthorization},
		"no TLS there":            {as("root", "test") + "?tls=skip-verify", nil, health.KindTLS},
		"a user who may not":      {as("reader:sesame", "hidden"), exec("insert into t values (1)"), health.KindAuthorization},
		"a read-only transaction": {srv.DSN(), func(c *sql.Conn) error {
			tx, err := c.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			_, err = tx.ExecContext(ctx, "insert into t values (1)")
			return err
		}, health.KindReadOnly},
		"a read-only server": {as("writer:sesame", "test"), func(c *sql.Conn) error {
			if _, err := admin.ExecContext(ctx, "set global read_only = 1"); err != nil {
				return err
			}
			defer func() { _, _ = admin.ExecContext(context.WithoutCancel(ctx), "set global read_only = 0") }()
			return exec("insert into t values (1)")(c)
		}, health.KindReadOnly},
		"a statement that is late": {srv.DSN(), exec("set statement max_statement_time = 0.01 for select sleep(10)"), health.KindCanceled},
		"too many connections": {srv.DSN(), func(c *sql.Conn) error {
			for range 12 {
				db := openMySQL(t, srv.DSN())
				defer func() { _ = db.Close() }()
				if err := db.PingContext(ctx); err != nil {
					return err
				}
			}
			return nil
		}, health.KindTooManyConnections},
		"too many of one user": {as("writer:sesame", "test"), func(*sql.Conn) error {
			db := openMySQL(t, as("writer:sesame", "test"))
			defer func() { _ = db.Close() }()
			return db.PingContext(ctx)
		}, health.KindTooManyConnections},
		"ended by an administrator": {srv.DSN(), func(c *sql.Conn) error {
			var id int
			if err := c.QueryRowContext(ctx, "select connection_id()").Scan(&id); err != nil {
				return err
			}
			if _, err := admin.ExecContext(ctx, fmt.Sprintf("kill %d", id)); err != nil {
				return err
			}
			// The driver turns this into ErrBadConn, and database/sql hands it on for a connection
			// that was asked for.
			return exec("do 1")(c)
		}, health.KindReset},
	} {
		t.Run(name, func(t *testing.T) {
			db := openMySQL(t, tt.dsn)
			defer func() { _ = db.Close() }()
			c, err := db.Conn(ctx)
			if err == nil {
				defer func() { _ = c.Close() }()
				if tt.do == nil {
					t.Fatal("connected")
				}
				err = tt.do(c)
			}
			judge(t, err, tt.want)
		})
	}
	srv.Kill(t)
	fresh := openMySQL(t, srv.DSN())
	defer func() { _ = fresh.Close() }()
	judge(t, fresh.PingContext(ctx), health.KindRefused)
	if _, ok := errors.AsType[*mysql.MySQLError](fresh.PingContext(ctx)); ok {
		t.Error("a dead server has answered")
	}
}
