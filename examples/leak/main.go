// Command leak forgets to close a result set, a transaction, a connection of database/sql and one of pgx. Each is
// named after a second with the file and line where it was taken; each is named again at the end, which comes at its
// deadline all the same: what is still held is cut off, and nothing is left on the server.
//
//	DATABASE_URL=postgres://localhost/postgres go run ./examples/leak
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), os.Stdout); err != nil { //nolint:forbidigo // nobody calls main with a context
		fmt.Fprintln(os.Stderr, "leak:", err)
		os.Exit(1)
	}
}

const (
	threshold = time.Second     // a connection that is held for longer is reported
	deadline  = 2 * time.Second // for the whole shutdown
)

func run(ctx context.Context, url string, out io.Writer) error {
	if url == "" {
		return errors.New("DATABASE_URL is empty; it must be that of a PostgreSQL server")
	}
	log := slog.New(slog.NewTextHandler(out, nil))
	orders, err := sqlpool.NewPostgres(sqlpool.Config{URL: url, LeakThreshold: threshold, Logger: log})
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	reports, err := sqlpool.NewDB(stdlib.GetConnector(*config), sqlpool.Config{LeakThreshold: threshold, Logger: log})
	if err != nil {
		return err
	}
	reg := lifecycle.New(lifecycle.Config{Logger: log, ShutdownTimeout: deadline})
	reg.Add("orders", orders)
	reg.Add("reports", reports)
	if err := reg.Start(ctx); err != nil {
		return err
	}
	if err := leak(ctx, orders, reports); err != nil {
		return errors.Join(err, reg.Shutdown(ctx))
	}
	select {
	case <-time.After(2 * threshold): // the leaks have come to light: holds are looked at twice per threshold
	case <-ctx.Done():
	}
	return reg.Shutdown(ctx)
}

// leak takes four connections and forgets them. What it returns is its trouble in taking them.
func leak(ctx context.Context, orders *sqlpool.Postgres, reports *sqlpool.Pool) error {
	rows, err := reports.DB().QueryContext(ctx, "select generate_series(1, 1000000)") // no rows.Close
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
	if _, err = reports.DB().Conn(ctx); err != nil { // no Close
		return err
	}
	_, err = orders.Pool().Acquire(ctx) // no Release
	return err
}
