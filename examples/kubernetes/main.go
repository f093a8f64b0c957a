// Command kubernetes is a service whose registry fits deployment.yaml beside it; docs/kubernetes.md
// explains the numbers.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// replicas is the number in deployment.yaml.
const replicas = 3

// config has the times that deployment.yaml has to fit.
func config() lifecycle.Config {
	return lifecycle.Config{
		StartTimeout:    time.Minute,
		ShutdownTimeout: 30 * time.Second,
		DrainDelay:      5 * time.Second,
	}
}

// check is for both pools: a dead server is noticed after 3 failures, the first within 5 s and the
// others 1 s apart.
func check() health.Check {
	return health.Check{Interval: 5 * time.Second, Timeout: time.Second}
}

func main() {
	if err := run(context.Background()); err != nil { //nolint:forbidigo // main has no context
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	reg := lifecycle.New(config())
	cache, err := redispool.New(redispool.Config{
		URL: os.Getenv("REDIS_URL"), MaxOpen: 20, MinIdle: 2, Instances: replicas, Start: poolkeeper.StartWaitForServer,
	})
	if err != nil {
		return err
	}
	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: os.Getenv("DATABASE_URL"), MaxOpen: 20, Start: poolkeeper.StartWaitForServer,
	})
	if err != nil {
		return err
	}
	api := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			var n int
			if err := orders.Pool().QueryRow(r.Context(), "SELECT 1").Scan(&n); err != nil {
				http.Error(w, "try again", http.StatusServiceUnavailable)
				return
			}
			_, _ = fmt.Fprintln(w, n)
		},
	)}
	probes := &http.Server{Addr: ":8081", ReadHeaderTimeout: 5 * time.Second, Handler: health.Handler(reg.Health())}

	reg.Add("cache", cache, lifecycle.WithHealthCheck(check()))
	reg.Add("orders", orders, lifecycle.WithHealthCheck(check()))
	reg.Add("api", lifecycle.HTTPServer(api), lifecycle.WithDependencies("cache", "orders"))
	reg.Add("probes", lifecycle.HTTPServer(probes), lifecycle.WithOps())
	return reg.Run(ctx)
}
