// Command readme is the code of the README, so that it compiles; a test compares the two.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func main() {
	if err := run(context.Background()); err != nil { //nolint:forbidigo // nobody calls main with a context
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 25 * time.Second, DrainDelay: 5 * time.Second})

	cache, err := redispool.New(redispool.Config{URL: os.Getenv("REDIS_URL"), MaxOpen: 20, MinIdle: 2})
	if err != nil {
		return err
	}
	orders, err := sqlpool.NewPostgres(sqlpool.Config{URL: os.Getenv("DATABASE_URL"), MaxOpen: 20})
	if err != nil {
		return err
	}
	api := &http.Server{Addr: ":8080", Handler: routes(cache.Client(), orders.Pool())}

	reg.Add("cache", cache)
	reg.Add("orders", orders)
	reg.Add("api", lifecycle.HTTPServer(api), lifecycle.DependsOn("cache", "orders"))
	reg.Add("probes", lifecycle.HTTPServer(&http.Server{Addr: ":8081", Handler: health.Handler(reg.Health())}),
		lifecycle.Ops()) // up first, down last: it answers while the rest starts and stops

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
