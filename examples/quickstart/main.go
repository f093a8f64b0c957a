// Command quickstart is a URL shortener on Redis and SQL whose pools are kept by poolkeeper.
//
// Without any setting it brings its own servers: miniredis over TCP and an SQLite file, behind the
// same code paths that real servers use. REDIS_URL, DATABASE_URL (PostgreSQL) and MYSQL_URL put
// real ones in their place; with both SQL servers set, links are kept in PostgreSQL and visits in
// MySQL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// shutdownTimeout is the budget of a shutdown. Kubernetes' terminationGracePeriodSeconds has to be
// longer.
const shutdownTimeout = 25 * time.Second

const readHeaderTimeout = 5 * time.Second

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout) //nolint:forbidigo // main has no caller
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` of the service")
	probeAddr := flags.String("probe-addr", "127.0.0.1:8081", "`address` of probes, status page, metrics and profiles")
	drainDelay := flags.Duration("drain-delay", time.Second, "how long to go on serving after readiness is withdrawn")
	if err := flags.Parse(args); err != nil {
		return err
	}

	// The narrator tells what the registry does, so its own log begins at warnings. A service
	// without a narrator logs all of it, as JSON.
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	warnings := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	redis.SetLogger(redispool.GoRedisLogger(log))
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: shutdownTimeout, DrainDelay: *drainDelay, Logger: warnings})
	b, err := open(reg, serversFromEnv(), log)
	if err != nil {
		// What was opened until then is closed again.
		return errors.Join(err, reg.Shutdown(ctx))
	}

	service := newShortener(b.cache.Client(), linkStore{b.links}, visitStore{b.visits}, log)
	api := lifecycle.HTTPServer(&http.Server{Addr: *addr, Handler: service.routes(), ReadHeaderTimeout: readHeaderTimeout})
	reg.Add("schema", lifecycle.Hooks{OnStart: service.migrate}, lifecycle.WithDependencies(b.sqlNames...))
	reg.Add("recorder", lifecycle.Worker(service.record), lifecycle.WithDependencies("schema"))
	reg.Add("api", api, lifecycle.WithDependencies("cache", "recorder"))
	probes := addOps(reg, *probeAddr)

	n := narrator{out: out, opened: b.opened, api: api.Addr, probes: probes.Addr}
	defer reg.Subscribe(n.tell)()
	return reg.Run(ctx)
}
