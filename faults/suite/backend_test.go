package suite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// The first password of the application, and the second. No output may show either.
const (
	secret  = "hunter2-before"
	renewed = "hunter2-after"
)

// places is how many connections a server grants to the application and those that fill it.
const places = 60

// rows is how many counters there are, one for each caller; longRow is that of work in flight.
const (
	rows    = 60
	longRow = rows
)

func key(n int) string { return "counter" + strconv.Itoa(n) }

// backend is a server, and what its administrator can do. Its methods are for one test at a time.
type backend struct {
	*testserver.Server

	args  []string
	start func(tb testing.TB, args ...string) *testserver.Server
	admin interface {
		prepare(ctx context.Context) error                      // once, and again for a server that lost its data
		connections(ctx context.Context) (int, error)           // of the application
		endAll(ctx context.Context) error                       // ends the application's connections
		setPassword(ctx context.Context, password string) error // of the application
		hog(ctx context.Context) (free func(), err error)       // takes one place
		total(ctx context.Context) (sum int, err error)         // of all counters
		readOnly(ctx context.Context, on bool) error            // for new and old connections, as after a demotion
		close()
	}
	connect func(b *backend) error // makes admin
	hogs    []func()
	fresh   func() *backend // a server like this one, that lives as long
}

// begin starts the server.
func (b *backend) begin(tb testing.TB) {
	tb.Helper()
	b.Server = b.start(tb, b.args...)
	if err := b.connect(b); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.free(); b.admin.close() })
	b.do(tb, b.admin.prepare)
	b.fresh = sync.OnceValue(func() *backend {
		another := &backend{start: b.start, args: b.args, connect: b.connect}
		another.begin(tb)
		return another
	})
}

// do does something as the administrator, who has 20 s for it.
func (b *backend) do(tb testing.TB, what func(ctx context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
	defer cancel()
	if err := what(ctx); err != nil {
		tb.Error(err)
	}
}

// back starts the server again after Kill or Stop.
func (b *backend) back(tb testing.TB) {
	tb.Helper()
	b.Restart(tb)
	b.do(tb, func(ctx context.Context) error {
		var err error
		for ctx.Err() == nil { // the administrator's own connections died with the server
			if err = b.admin.prepare(ctx); err == nil {
				return nil
			}
			sleep(10 * time.Millisecond)
		}
		return err
	})
}

// fill takes every connection that the server grants, and those that the application has.
func (b *backend) fill(tb testing.TB) {
	tb.Helper()
	b.do(tb, func(ctx context.Context) error {
		for full := 0; full < 3; {
			free, err := b.admin.hog(ctx)
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("filling the server: %w", err)
			case err == nil:
				b.hogs = append(b.hogs, free)
				continue
			}
			full++
			if err := b.admin.endAll(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// free gives back what fill took.
func (b *backend) free() {
	for _, free := range b.hogs {
		free()
	}
	b.hogs = nil
}

// redisAdmin talks to a Redis. Persistence is off, so that a restart loses data: that is not the
// pool's.
type redisAdmin struct {
	c    *redis.Client
	addr string
	pass string
}

func redisBackend() *backend {
	return &backend{
		start: testserver.Redis, args: []string{"--maxclients", strconv.Itoa(places), "--requirepass", secret},
		connect: func(b *backend) error {
			a := &redisAdmin{addr: b.Addr(), pass: secret}
			a.c = redis.NewClient(&redis.Options{Addr: b.Addr(), PoolSize: 1, CredentialsProvider: func() (string, string) { return "", a.pass }, ClientName: "admin"})
			b.admin = a
			return nil
		},
	}
}

func (a *redisAdmin) close()                            { _ = a.c.Close() }
func (a *redisAdmin) prepare(ctx context.Context) error { return a.c.Ping(ctx).Err() }

func (a *redisAdmin) list(ctx context.Context) (ids []string, err error) {
	text, err := a.c.ClientList(ctx).Result()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		fields := map[string]string{}
		for f := range strings.FieldsSeq(line) {
			k, v, _ := strings.Cut(f, "=")
			fields[k] = v
		}
		if fields["name"] != "admin" && fields["name"] != "hog" {
			ids = append(ids, fields["id"])
		}
	}
	return ids, nil
}

func (a *redisAdmin) connections(ctx context.Context) (int, error) {
	ids, err := a.list(ctx)
	return len(ids), err
}

func (a *redisAdmin) endAll(ctx context.Context) error {
	ids, err := a.list(ctx)
	for _, id := range ids {
		_ = a.c.ClientKillByFilter(ctx, "ID", id).Err() // it may be gone
	}
	return err
}

func (a *redisAdmin) setPassword(ctx context.Context, password string) error {
	if err := a.c.ConfigSet(ctx, "requirepass", password).Err(); err != nil {
		return err
	}
	a.pass = password
	return nil
}

func (a *redisAdmin) hog(ctx context.Context) (func(), error) {
	c := redis.NewClient(&redis.Options{Addr: a.addr, PoolSize: 1, MaxRetries: -1, Password: a.pass, ClientName: "hog"})
	if err := c.Ping(ctx).Err(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return func() { _ = c.Close() }, nil
}

func (a *redisAdmin) total(ctx context.Context) (sum int, err error) {
	for n := range rows {
		v, err := a.c.Get(ctx, key(n)).Int()
		if err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it bare
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func (a *redisAdmin) readOnly(ctx context.Context, on bool) error {
	if !on {
		return a.c.Do(ctx, "replicaof", "no", "one").Err()
	}
	return a.c.Do(ctx, "replicaof", "127.0.0.1", "1").Err() // nobody's port: only the role counts
}

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

func (a *sqlAdmin) readOnly(ctx context.Context, on bool) error {
	for text := range strings.SplitSeq(fmt.Sprintf(a.sql.readOnly, on), ";") {
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
			hba := "host all " + user + " 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n"
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
			"grant all on counters to " + user,
		},
		count: "select count(*)" + others, ids: "select pid" + others, end: "select pg_terminate_backend(%d)",
		password: "alter role " + user + " password '%s'",
		readOnly: "alter system set default_transaction_read_only = %t;select pg_reload_conf()",
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
		},
		count: "select count(*)" + others, ids: "select id" + others, end: "kill %d",
		password: "alter user " + user + "@'%%' identified by '%s'",
		readOnly: "set global read_only = %t",
	}
}
