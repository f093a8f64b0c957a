package suite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// sqlAdmin talks to PostgreSQL or MariaDB.
type sqlAdmin struct {
	db     *sql.DB
	sql    dialect
	hogDSN string
}

// dialect has what differs between the two.
type dialect struct {
	driver                              string
	prepare                             []string
	count, ids, end, password, readOnly string
	idle                                string // takes seconds
	noIdle                              int    // seconds that turn it off
}

func (a *sqlAdmin) close() { _ = a.db.Close() }

func (a *sqlAdmin) prepare(ctx context.Context) error {
	for _, text := range a.sql.prepare {
		if _, err := a.db.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

func (a *sqlAdmin) connections(ctx context.Context) (n int, err error) {
	return n, a.db.QueryRowContext(ctx, a.sql.count).Scan(&n)
}

func (a *sqlAdmin) endAll(ctx context.Context) error {
	ids, err := a.list(ctx)
	for _, id := range ids {
		_, _ = a.db.ExecContext(ctx, fmt.Sprintf(a.sql.end, id)) // it may be gone
	}
	return err
}

func (a *sqlAdmin) endOne(ctx context.Context, n int) error {
	ids, err := a.list(ctx)
	if err != nil || len(ids) == 0 {
		return err
	}
	_, _ = a.db.ExecContext(ctx, fmt.Sprintf(a.sql.end, ids[n%len(ids)])) // it may be gone
	return nil
}

func (a *sqlAdmin) list(ctx context.Context) (ids []int, err error) {
	found, err := a.db.QueryContext(ctx, a.sql.ids)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		var id int
		if err := found.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, found.Err()
}

func (a *sqlAdmin) setPassword(ctx context.Context, password string) error {
	_, err := a.db.ExecContext(ctx, fmt.Sprintf(a.sql.password, password))
	return err
}

func (a *sqlAdmin) hog(ctx context.Context) (func(), error) {
	db, err := sql.Open(a.sql.driver, a.hogDSN)
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return func() { _ = db.Close() }, nil
}

func (a *sqlAdmin) total(ctx context.Context) (sum int, err error) {
	return sum, a.db.QueryRowContext(ctx, "select sum(n) from counters where id < "+strconv.Itoa(rows)).Scan(&sum)
}

func (a *sqlAdmin) applied(ctx context.Context) (map[int64]int, error) {
	found, err := a.db.QueryContext(ctx, "select id, count(*) from ids group by id")
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	out := map[int64]int{}
	for found.Next() {
		var id int64
		var n int
		if err := found.Scan(&id, &n); err != nil {
			return nil, err
		}
		out[id] = n
	}
	return out, found.Err()
}

func (a *sqlAdmin) idleTimeout(ctx context.Context, on bool) error {
	seconds := a.sql.noIdle
	if on {
		seconds = int(idleLimit.Seconds())
	}
	return a.all(ctx, fmt.Sprintf(a.sql.idle, seconds))
}

func (a *sqlAdmin) readOnly(ctx context.Context, on bool) error {
	return a.all(ctx, fmt.Sprintf(a.sql.readOnly, on))
}

// all executes statements one by one.
func (a *sqlAdmin) all(ctx context.Context, texts string) error {
	for text := range strings.SplitSeq(texts, ";") {
		if _, err := a.db.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

func postgresBackend() *backend {
	return &backend{
		start: testserver.Postgres, args: []string{"max_connections=" + strconv.Itoa(places+3)}, // 3 are kept for superusers
		connect: func(b *backend) error {
			hba := "host replication all 127.0.0.1/32 trust\nhost all " + user + " 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n"
			if err := os.WriteFile(filepath.Join(b.Dir(), "data", "pg_hba.conf"), []byte(hba), 0o644); err != nil { //nolint:gosec // the server runs as another user
				return err
			}
			db, err := sql.Open("pgx", b.URL())
			if err != nil {
				return err
			}
			db.SetMaxOpenConns(1)
			db.SetMaxIdleConns(1)
			b.admin = &sqlAdmin{db: db, sql: postgresDialect(), hogDSN: strings.Replace(b.URL(), "postgres@", "hog@", 1)}
			return nil
		},
	}
}

func postgresDialect() dialect {
	const others = " from pg_stat_activity where usename = '" + user + "'"
	return dialect{
		driver: "pgx",
		prepare: []string{
			"select pg_reload_conf()",
			"do $$ begin if not exists (select from pg_roles where rolname = '" + user + "') then" +
				" create role " + user + " login password '" + secret + "'; create role hog login; end if; end $$",
			"create table if not exists counters (id int primary key, n int not null)",
			"insert into counters select i, 0 from generate_series(0, " + strconv.Itoa(longRow) + ") i on conflict do nothing",
			"create table if not exists ids (id bigint not null)", // and not unique: a second insert shows
			"create table if not exists copies (id int not null)",
			"grant all on counters, ids, copies to " + user,
		},
		count: "select count(*)" + others, ids: "select pid" + others, end: "select pg_terminate_backend(%d)",
		password: "alter role " + user + " password '%s'",
		readOnly: "alter system set default_transaction_read_only = %t;select pg_reload_conf()",
		idle:     "alter system set idle_session_timeout = '%ds';select pg_reload_conf()",
	}
}

func mariadbBackend() *backend {
	return &backend{
		start: testserver.MariaDB, args: []string{"--max-connections=" + strconv.Itoa(places)}, // and one for administrators
		connect: func(b *backend) error {
			db, err := sql.Open("mysql", b.DSN())
			if err != nil {
				return err
			}
			db.SetMaxOpenConns(1)
			db.SetMaxIdleConns(1)
			b.admin = &sqlAdmin{db: db, sql: mariadbDialect(), hogDSN: strings.Replace(b.DSN(), "root@", "hog@", 1)}
			return nil
		},
	}
}

func mariadbDialect() dialect {
	const others = " from information_schema.processlist where user = '" + user + "'"
	values := make([]string, 0, longRow+1)
	for i := range longRow + 1 {
		values = append(values, fmt.Sprintf("(%d, 0)", i))
	}
	return dialect{
		driver: "mysql",
		prepare: []string{
			"create user if not exists " + user + "@'%' identified by '" + secret + "'",
			"create user if not exists hog@'%'",
			"grant all on test.* to " + user + "@'%'",
			"grant all on test.* to hog@'%'",
			"create table if not exists counters (id int primary key, n int not null)",
			"insert ignore into counters values " + strings.Join(values, ", "),
			"create table if not exists ids (id bigint not null)", // and not unique: a second insert shows
		},
		count: "select count(*)" + others, ids: "select id" + others, end: "kill %d",
		password: "alter user " + user + "@'%%' identified by '%s'",
		readOnly: "set global read_only = %t",
		idle:     "set global wait_timeout = %d", noIdle: 28800,
	}
}
