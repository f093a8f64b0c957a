package suite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// library is a client library, with the size of its pool.
type library struct {
	name    string
	backend func() *backend
	conns   int
	raw     func(r *rig) (native, error)
	managed func(r *rig) (pool, native, error)
	// topology is more than one server, started for each round. It has scenarios of its own, and no
	// others. Empty: one server, for all rounds.
	topology string
}

// native is the handle that the service works with, as functions.
type native struct {
	write func(ctx context.Context, n int) error // adds one to row or key n
	// long is work in flight: it writes, waits on the connection that it holds, and commits.
	long   func(ctx context.Context, d time.Duration) error
	kinds  map[string]func(ctx context.Context, n int) error // other forms of write, by name; see kindsOf
	insert func(ctx context.Context, id int64) error         // writes id once more
	close  func()                                            // of a raw client
}

// pool is a managed pool.
type pool interface {
	lifecycle.Component
	Stats() poolkeeper.Stats
	Holders() []poolkeeper.Holder
}

// rig is what a client is built from.
type rig struct {
	addr     string   // of the proxy
	addrs    []string // of the topology, or addr
	conns    int
	failFast time.Duration
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	log      *slog.Logger
	password func() string // the one that the application knows now

	parameters string // of a PostgreSQL URL, after the others
}

// user is the application's login on every server.
const user = "app"

func libraries() []library {
	return []library{
		{"Redis, 8 connections", redisBackend, 8, rawRedis(0), managedRedis(0), ""},
		{"Redis, 40 connections", redisBackend, 40, rawRedis(0), managedRedis(0), ""},
		{"Redis, 8, no retries", redisBackend, 8, rawRedis(-1), managedRedis(-1), ""},
		{"Redis, 40, no retries", redisBackend, 40, rawRedis(-1), managedRedis(-1), ""},
		{"pgxpool", postgresBackend, 10, rawPgxpool, managedPgxpool, ""},
		{"database/sql on pgx", postgresBackend, 10, rawPgxDB, managedPgxDB, ""},
		{"MariaDB", mariadbBackend, 10, rawMariaDB, managedMariaDB, ""},
	}
}

// lingers is how long the driver goes on by itself after a connection is closed, out of the pool's
// reach. pgconn asks the server for up to 15 s to cancel what a caller has given up. NewDB gets a
// connector, and cannot bound that, as NewPostgres does.
func (lib library) lingers() time.Duration {
	if lib.name == "database/sql on pgx" {
		return 15 * time.Second
	}
	return 0
}

func redisNative(c redis.UniversalClient) native {
	return native{
		write: func(ctx context.Context, n int) error { return c.Incr(ctx, key(n)).Err() },
		long: func(ctx context.Context, d time.Duration) error {
			return c.Watch(ctx, func(tx *redis.Tx) error {
				if err := tx.Incr(ctx, "long").Err(); err != nil {
					return err
				}
				sleep(d)
				return tx.Incr(ctx, "long").Err()
			}, "{long}other")
		},
		kinds:  redisKinds(c),
		insert: func(ctx context.Context, id int64) error { return c.Incr(ctx, idKey(id)).Err() },
		close:  func() { _ = c.Close() },
	}
}

func rawRedis(retries int) func(r *rig) (native, error) {
	return func(r *rig) (native, error) {
		return redisNative(redis.NewClient(&redis.Options{
			Addr: r.addr, PoolSize: r.conns, MaxRetries: retries, ContextTimeoutEnabled: true, Dialer: r.dial,
			CredentialsProvider: func() (string, string) { return "", r.password() },
		})), nil
	}
}

func managedRedis(retries int) func(r *rig) (pool, native, error) {
	return func(r *rig) (pool, native, error) {
		p, err := redispool.New(redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{r.addr}, MaxRetries: retries, Dialer: r.dial},
			MaxOpen: r.conns, FailFastAfter: r.failFast, Logger: r.log,
			Credentials: func(context.Context) (string, string, error) { return "", r.password(), nil },
		})
		if err != nil {
			return nil, native{}, err
		}
		return p, redisNative(p.Client()), nil
	}
}

const (
	pgWrite    = "update counters set n = n + 1 where id = $1"
	mysqlWrite = "update counters set n = n + 1 where id = ?"

	pgInsert    = "insert into ids values ($1)"
	mysqlInsert = "insert into ids values (?)"
)

func pgxNative(p *pgxpool.Pool) native {
	return native{
		write: func(ctx context.Context, n int) error { _, err := p.Exec(ctx, pgWrite, n); return err },
		long: func(ctx context.Context, d time.Duration) error {
			return pgx.BeginFunc(ctx, p, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, pgWrite, longRow); err != nil {
					return err
				}
				sleep(d)
				_, err := tx.Exec(ctx, pgWrite, longRow)
				return err
			})
		},
		kinds:  pgxKinds(p),
		insert: func(ctx context.Context, id int64) error { _, err := p.Exec(ctx, pgInsert, id); return err },
		close:  p.Close,
	}
}

func (r *rig) pgConfig() (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig("postgres://" + user + "@" + r.addr + "/postgres?sslmode=disable" + r.parameters)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(r.conns) //nolint:gosec // 10
	cfg.ConnConfig.DialFunc = r.dial
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { c.Password = r.password(); return nil }
	return cfg, nil
}

func rawPgxpool(r *rig) (native, error) {
	cfg, err := r.pgConfig()
	if err != nil {
		return native{}, err
	}
	p, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return native{}, err
	}
	return pgxNative(p), nil
}

func managedPgxpool(r *rig) (pool, native, error) {
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: "postgres://" + user + "@" + r.addr + "/postgres?sslmode=disable" + r.parameters, MaxOpen: r.conns,
		FailFastAfter: r.failFast, Logger: r.log,
		Credentials: func(context.Context) (string, string, error) { return user, r.password(), nil },
		Configure:   func(c *pgxpool.Config) error { c.ConnConfig.DialFunc = r.dial; return nil },
	})
	if err != nil {
		return nil, native{}, err
	}
	return p, pgxNative(p.Pool()), nil
}

func dbNative(db *sql.DB, write, insert string) native {
	return native{
		write: func(ctx context.Context, n int) error { _, err := db.ExecContext(ctx, write, n); return err },
		long: func(ctx context.Context, d time.Duration) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(ctx, write, longRow); err != nil {
				return err
			}
			sleep(d)
			if _, err := tx.ExecContext(ctx, write, longRow); err != nil {
				return err
			}
			return tx.Commit()
		},
		kinds:  dbKinds(db, write),
		insert: func(ctx context.Context, id int64) error { _, err := db.ExecContext(ctx, insert, id); return err },
		close:  func() { _ = db.Close() },
	}
}

// connector opens connections of pgx for database/sql.
func (r *rig) connector() (driver.Connector, error) {
	cfg, err := r.pgConfig()
	if err != nil {
		return nil, err
	}
	return stdlib.GetConnector(*cfg.ConnConfig, stdlib.OptionBeforeConnect(cfg.BeforeConnect)), nil
}

func rawPgxDB(r *rig) (native, error) {
	c, err := r.connector()
	if err != nil {
		return native{}, err
	}
	return dbNative(r.opened(sql.OpenDB(c)), pgWrite, pgInsert), nil
}

// opened sets the size of a raw pool. The default of MaxIdleConns, 2, would close connections after
// most calls.
func (r *rig) opened(db *sql.DB) *sql.DB {
	db.SetMaxOpenConns(r.conns)
	db.SetMaxIdleConns(r.conns)
	return db
}

func managedPgxDB(r *rig) (pool, native, error) {
	c, err := r.connector()
	if err != nil {
		return nil, native{}, err
	}
	p, err := sqlpool.NewDB(c, sqlpool.DBConfig{MaxOpen: r.conns, FailFastAfter: r.failFast, Logger: r.log})
	if err != nil {
		return nil, native{}, err
	}
	return p, dbNative(p.DB(), pgWrite, pgInsert), nil
}

func (r *rig) mysqlConfig(c *mysql.Config) error {
	c.DialFunc = r.dial
	return c.Apply(mysql.BeforeConnect(func(_ context.Context, c *mysql.Config) error { c.Passwd = r.password(); return nil }))
}

func rawMariaDB(r *rig) (native, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", r.addr, user, "test"
	if err := r.mysqlConfig(cfg); err != nil {
		return native{}, err
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return native{}, err
	}
	return dbNative(r.opened(sql.OpenDB(c)), mysqlWrite, mysqlInsert), nil
}

func managedMariaDB(r *rig) (pool, native, error) {
	p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{
		URL: user + "@tcp(" + r.addr + ")/test", MaxOpen: r.conns, FailFastAfter: r.failFast, Logger: r.log,
		Credentials: func(context.Context) (string, string, error) { return user, r.password(), nil },
		Configure:   func(c *mysql.Config) error { c.DialFunc = r.dial; return nil },
	})
	if err != nil {
		return nil, native{}, err
	}
	return p, dbNative(p.DB(), mysqlWrite, mysqlInsert), nil
}
