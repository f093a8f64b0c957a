// Command leak forgets to close a result set, a transaction, a connection of database/sql and one
// of pgx. Each is named after a second with the file and line where it was taken; each is named
// again at the end, which comes at its deadline all the same: what is still held is cut off, and
// nothing is left on the server.
//
//	DATABASE_URL=postgres://localhost/postgres go run ./examples/leak
//
// Without DATABASE_URL it leaks the first three on an embedded SQLite database. That has no
// sockets: what is held there is named too, but cannot be cut off.
//
//	go run ./examples/leak -stay 10m
//
// keeps it running, so that the leaks can be looked at from outside: in Holders, which it prints, in
// the metrics, on the status page and among the goroutines. A caller that finds the pool full waits
// meanwhile, and gives up every second.
package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

func main() {
	stay := flag.Duration("stay", 2*threshold, "how `long` to hold the leaked connections")
	ops := flag.String("ops", "127.0.0.1:0", "`address` of status page, metrics and profiles")
	flag.Parse()
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), *ops, *stay, os.Stdout); err != nil { //nolint:forbidigo // main has no caller
		fmt.Fprintln(os.Stderr, "leak:", err)
		os.Exit(1)
	}
}

const (
	threshold = time.Second     // a connection that is held for longer is reported
	deadline  = 2 * time.Second // for the whole shutdown
	leaked    = 3               // connections of reports, which are all it may open
)

func run(ctx context.Context, url, ops string, stay time.Duration, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(out, nil))
	reg := lifecycle.New(lifecycle.Config{Logger: log, ShutdownTimeout: deadline})
	connector, numbers, err := reportsOn(url, out)
	if err != nil {
		return err
	}
	reports, err := sqlpool.NewDB(connector, sqlpool.DBConfig{
		MaxOpen: leaked, AcquireTimeout: time.Second, LeakThreshold: threshold, Logger: log,
	})
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
	looks := addOps(reg, ops)
	if err := reg.Start(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "look at http://%[1]s/status/, http://%[1]s/metrics and http://%[1]s/debug/pprof/goroutine?debug=1\n", looks.Addr())
	if err := leak(ctx, orders, reports, numbers); err != nil {
		return errors.Join(err, reg.Shutdown(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, stay) // the leaks come to light: holds are looked at twice per threshold
	defer cancel()
	waitForConnections(ctx, reports, out)
	for name, pool := range reg.Components() {
		if p, ok := pool.(lifecycle.HolderLister); ok {
			for _, h := range p.Holders() {
				_, _ = fmt.Fprintf(out, "Holders of %s: %s\n", name, h.Describe(time.Now()))
			}
		}
	}
	return reg.Shutdown(context.WithoutCancel(ctx))
}

// addOps adds a status page, metrics and profiles.
func addOps(reg *lifecycle.Registry, addr string) *lifecycle.Server {
	anyone := func(*http.Request) bool { return true } // the address is that of this machine
	page := statuspage.New(reg, statuspage.Config{Name: "leak", Allow: anyone})
	mux := http.NewServeMux()
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/metrics", metrics.Handler(reg))
	mux.Handle("/debug/pprof/", statuspage.Profiles(anyone))
	srv := lifecycle.HTTPServer(&http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: time.Second})
	reg.Add("ops", srv, lifecycle.WithOps())
	reg.Add("status", page, lifecycle.WithOps())
	return srv
}

// waitForConnections is a caller that finds the pool full, and says so once.
func waitForConnections(ctx context.Context, reports *sqlpool.DB, out io.Writer) {
	said := false
	for ctx.Err() == nil {
		c, err := reports.DB().Conn(ctx)
		if err == nil {
			_ = c.Close()
			return
		}
		if !said && errors.Is(err, poolkeeper.ErrAcquireTimeout) {
			said = true
			_, _ = fmt.Fprintln(out, "a caller:", err)
		}
	}
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
