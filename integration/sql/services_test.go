package integration_test

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/poolkeeper/poolkeeper/integration/sql/sqlcgen/postgres"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// The services of docs/integrations.md, which shows their text; docs_test.go runs them and
// compares.

// gormService is a service on GORM.
func gormService(ctx context.Context, url string, api func(context.Context, *gorm.DB) error) error {
	pool, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: url, MaxOpen: 20})
	if err != nil {
		return err
	}
	var db *gorm.DB
	open := func(context.Context) error { // asks the server for its version: the pool has to be up
		var openErr error
		db, openErr = gorm.Open(gormmysql.New(gormmysql.Config{Conn: pool.DB()}), &gorm.Config{})
		return openErr
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second})
	reg.Add("db", pool)
	reg.Add("gorm", lifecycle.Hooks{OnStart: open}, lifecycle.WithDependencies("db"))
	reg.Go("api", func(ctx context.Context) error { return api(ctx, db) }, lifecycle.WithDependencies("gorm"))
	return reg.Run(ctx)
}

// sqlxService is a service on sqlx.
func sqlxService(ctx context.Context, url string, api func(context.Context, *sqlx.DB) error) error {
	pool, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: url, MaxOpen: 20})
	if err != nil {
		return err
	}
	db := sqlx.NewDb(pool.DB(), "mysql") // the name tells sqlx how placeholders look
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second})
	reg.Add("db", pool)
	reg.Go("api", func(ctx context.Context) error { return api(ctx, db) }, lifecycle.WithDependencies("db"))
	return reg.Run(ctx)
}

// sqlcService is a service on code that sqlc has generated for database/sql, with
// emit_prepared_queries.
func sqlcService(ctx context.Context, url string, api func(context.Context, *postgres.Queries) error) error {
	pool, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 20})
	if err != nil {
		return err
	}
	var q *postgres.Queries
	queries := lifecycle.Hooks{
		OnStart: func(ctx context.Context) error {
			var prepareErr error
			q, prepareErr = postgres.Prepare(ctx, pool.DB())
			return prepareErr
		},
		OnStop: func(context.Context) error { return q.Close() },
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second})
	reg.Add("db", pool)
	reg.Add("queries", queries, lifecycle.WithDependencies("db"))
	reg.Go("api", func(ctx context.Context) error { return api(ctx, q) }, lifecycle.WithDependencies("queries"))
	return reg.Run(ctx)
}

// riverJobs is a service that works on River's jobs.
func riverJobs(ctx context.Context, url string, jobs *river.Workers, api func(context.Context, *river.Client[pgx.Tx]) error) error {
	pool, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 20})
	if err != nil {
		return err
	}
	driver := riverpgxv5.New(pool.Pool())
	client, err := river.NewClient(driver, &river.Config{
		Workers:         jobs,
		Queues:          map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
		SoftStopTimeout: 10 * time.Second, // shorter than the registry's
	})
	if err != nil {
		return errors.Join(err, pool.Stop(ctx))
	}
	migrate := func(ctx context.Context) error {
		migrator, migrateErr := rivermigrate.New(driver, nil)
		if migrateErr == nil {
			_, migrateErr = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		}
		return migrateErr
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second})
	reg.Add("db", pool)
	reg.Add("schema", lifecycle.Hooks{OnStart: migrate}, lifecycle.WithDependencies("db"))
	reg.Add("river", riverWorker{client}, lifecycle.WithDependencies("schema"))
	reg.Go("api", func(ctx context.Context) error { return api(ctx, client) }, lifecycle.WithDependencies("schema"))
	return reg.Run(ctx)
}
