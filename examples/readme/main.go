// Command readme is the code of the README, so that it compiles; a test compares the two.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func main() {
	if err := run(context.Background()); err != nil { //nolint:forbidigo // main has no caller
		slog.Error("service failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	redis.SetLogger(redispool.GoRedisLogger(slog.Default())) // go-redis' own lines, of which it writes many in an outage

	cache, err := redispool.New(redispool.Config{
		URL: os.Getenv("REDIS_URL"), MaxOpen: 20, MinIdle: 2, Start: poolkeeper.StartDegraded,
	})
	if err != nil {
		return err
	}
	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: os.Getenv("DATABASE_URL"), MaxOpen: 20})
	if err != nil {
		return err
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second, DrainDelay: 5 * time.Second})
	reg.Add("cache", cache, lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading})) // without it: slower, not broken
	reg.Add("orders", orders)

	api := &http.Server{Addr: ":8080", Handler: routes(cache.Client(), orders.Pool())}
	reg.Add("api", lifecycle.HTTPServer(api), lifecycle.WithDependencies("cache", "orders"))

	details := health.WithDetails(func(*http.Request) bool { return true }) // only operators reach this port
	probes := &http.Server{Addr: ":8081", Handler: health.Handler(reg.Health(), details)}
	reg.Add("probes", lifecycle.HTTPServer(probes), lifecycle.WithOps()) // up first, down last: it answers throughout

	return reg.Run(ctx) // start; wait for SIGINT, SIGTERM or a dying component; shut down
}

// routes is the service: it knows native handles only.
func routes(cache redis.UniversalClient, orders *pgxpool.Pool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/count", func(w http.ResponseWriter, r *http.Request) {
		count, err := cache.Get(r.Context(), "orders:count").Int()
		if err != nil { // not cached, or no cache
			if err = orders.QueryRow(r.Context(), "SELECT count(*) FROM orders").Scan(&count); err != nil {
				http.Error(w, "try again", http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = fmt.Fprintln(w, count)
	})
	return mux
}
