// Command leak forgets to close a result set, a transaction, a connection of database/sql and one
// of pgx. Each is named after a second with the file and line where it was taken; each is named
// again at the end, which comes at its deadline all the same: what is still held is cut off, and
// nothing is left on the server.
//
//	DATABASE_URL=postgres://localhost/postgres go run ./examples/leak
//
// Without DATABASE_URL it leaks the first three on an embedded SQLite database. That has no
// sockets: what is held there is named too, but cannot be cut off.
package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), os.Stdout); err != nil { //nolint:forbidigo // main has no caller
		fmt.Fprintln(os.Stderr, "leak:", err)
		os.Exit(1)
	}
}

const (
	threshold = time.Second     // a connection that is held for longer is reported
	deadline  = 2 * time.Second // for the whole shutdown
)

func run(ctx context.Context, url string, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(out, nil))
	reg := lifecycle.New(lifecycle.Config{Logger: log, ShutdownTimeout: deadline})
	connector, numbers, err := reportsOn(url, out)
	if err != nil {
		return err
	}
	reports, err := sqlpool.NewDB(connector, sqlpool.DBConfig{LeakThreshold: threshold, Logger: log})
	if err != nil {
		return err
	}
	reg.Add("reports", reports)
	var orders *sqlpool.Postgres
	if url != "" {
		orders, err = sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, LeakThreshold: threshold, Logger: log})
		if err != nil {
			return errors.Join(err, reg.Shutdown(ctx))
		}
		reg.Add("orders", orders)
	}
	if err := reg.Start(ctx); err != nil {
		return err
	}
	if err := leak(ctx, orders, reports, numbers); err != nil {
		return errors.Join(err, reg.Shutdown(ctx))
	}
	select {
	case <-time.After(2 * threshold): // the leaks have come to light: holds are looked at twice per threshold
	case <-ctx.Done():
	}
	return reg.Shutdown(ctx)
}

// reportsOn returns a connector to PostgreSQL, or to SQLite if url is empty, and a query for many
// numbers.
func reportsOn(url string, out io.Writer) (c driver.Connector, numbers string, err error) {
	if url == "" {
		_, _ = fmt.Fprintln(out, "DATABASE_URL is empty: leaking on an embedded SQLite database, whose connections cannot be cut off")
		c, err = sqlite.NewConnector("file:leak?mode=memory&cache=shared")
		return c, "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000) select i from n", err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, "", err
	}
	return stdlib.GetConnector(*config), "select generate_series(1, 1000000)", nil
}

// leak takes connections and forgets them: four, or three if there is no orders. It returns an
// error if it cannot take one.
func leak(ctx context.Context, orders *sqlpool.Postgres, reports *sqlpool.DB, numbers string) error {
	rows, err := reports.DB().QueryContext(ctx, numbers) // no rows.Close
	if err != nil {
		return err
	}
	rows.Next()
	if err = rows.Err(); err != nil {
		return err
	}
	if _, err = reports.DB().BeginTx(ctx, nil); err != nil { // neither Commit nor Rollback
		return err
	}
	if _, err = reports.DB().Conn(ctx); err != nil || orders == nil { // no Close
		return err
	}
	_, err = orders.Pool().Acquire(ctx) // no Release
	return err
}
