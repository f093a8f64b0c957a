package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/alicebob/miniredis/v2"
	"modernc.org/sqlite"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// closer makes an io.Closer of a function.
type closer func() error

func (f closer) Close() error { return f() }

// servers are the addresses of real servers; an empty one is replaced by an embedded server.
type servers struct {
	redis, postgres, mysql string
}

func serversFromEnv() servers {
	return servers{redis: os.Getenv("REDIS_URL"), postgres: os.Getenv("DATABASE_URL"), mysql: os.Getenv("MYSQL_URL")}
}

// backends are the pools of the service and the names under which they were added.
type backends struct {
	cache         *redispool.Pool
	links, visits database
	sqlNames      []string
	opened        []opened
}

// opened is what the start-up message says of a pool.
type opened struct {
	name, what string
	settings   []slog.Attr
}

// open makes the pools and adds them to the registry. Nothing is dialled yet.
func open(reg *lifecycle.Registry, at servers, log *slog.Logger) (*backends, error) {
	b := &backends{}
	return b, errors.Join(b.openCache(reg, at.redis, log), b.openSQL(reg, at, log))
}

func (b *backends) openCache(reg *lifecycle.Registry, url string, log *slog.Logger) error {
	what, options := "Redis", []lifecycle.Option{
		// Without its cache the service is slower, not broken.
		lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading}),
	}
	if url == "" {
		what = "embedded Redis (miniredis)"
		server := miniredis.NewMiniRedis()
		if err := server.Start(); err != nil {
			return fmt.Errorf("embedded Redis: %w", err)
		}
		reg.Add("redis-server", lifecycle.Closer(closer(func() error {
			server.Close()
			return nil
		})))
		url, options = "redis://"+server.Addr(), append(options, lifecycle.WithDependencies("redis-server"))
	}
	cache, err := redispool.New(redispool.Config{URL: url, MaxOpen: 20, MinIdle: 2, Start: poolkeeper.StartDegraded, Logger: log})
	if err != nil {
		return err
	}
	reg.Add("cache", cache, options...)
	b.cache = cache
	b.opened = append(b.opened, opened{"cache", what, cache.Settings()})
	return nil
}

// openSQL opens what the addresses say: PostgreSQL, MySQL, or both: then links are in the first and
// visits in the second. With neither it is an SQLite file in a temporary directory.
func (b *backends) openSQL(reg *lifecycle.Registry, at servers, log *slog.Logger) error {
	var found []database
	if at.postgres != "" {
		pool, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: at.postgres, MaxOpen: 20, MinIdle: 2, Logger: log})
		if err != nil {
			return err
		}
		b.add(reg, "postgres", "PostgreSQL", pool)
		found = append(found, database{pool.DB(), dollars})
	}
	if at.mysql != "" {
		pool, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: at.mysql, MaxOpen: 20, MinIdle: 2, Logger: log})
		if err != nil {
			return err
		}
		b.add(reg, "mysql", "MySQL", pool)
		found = append(found, database{pool.DB(), questionMarks})
	}
	if len(found) == 0 {
		pool, err := b.openSQLite(reg, log)
		if err != nil {
			return err
		}
		found = append(found, database{pool.DB(), questionMarks})
	}
	b.links, b.visits = found[0], found[len(found)-1]
	return nil
}

func (b *backends) openSQLite(reg *lifecycle.Registry, log *slog.Logger) (*sqlpool.DB, error) {
	dir, err := os.MkdirTemp("", "poolkeeper-quickstart-")
	if err != nil {
		return nil, err
	}
	reg.Add("sqlite-file", lifecycle.Closer(closer(func() error { return os.RemoveAll(dir) })))
	connector, err := sqlite.NewConnector("file:" + filepath.Join(dir, "quickstart.db") +
		"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	pool, err := sqlpool.NewDB(connector, sqlpool.DBConfig{MaxOpen: 4, MinIdle: 1, Logger: log})
	if err != nil {
		return nil, err
	}
	b.add(reg, "sqlite", "embedded SQL database (SQLite)", pool, lifecycle.WithDependencies("sqlite-file"))
	return pool, nil
}

// sqlPool is what both kinds of SQL pool are to the start-up message.
type sqlPool interface {
	lifecycle.Component
	lifecycle.SettingsProvider
}

func (b *backends) add(reg *lifecycle.Registry, name, what string, pool sqlPool, options ...lifecycle.Option) {
	reg.Add(name, pool, options...)
	b.sqlNames = append(b.sqlNames, name)
	b.opened = append(b.opened, opened{name, what, pool.Settings()})
}
