// Command kubernetes is a service whose registry fits the manifests beside it; docs/kubernetes.md
// explains the numbers. podmonitor.yaml makes Prometheus scrape it, and ops/prometheusrule.yaml has the
// alerts.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/statuspage"
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
	page := statuspage.New(reg, statuspage.Config{Name: "orders", Allow: forwarded})
	probes := &http.Server{Addr: ":8081", ReadHeaderTimeout: 5 * time.Second, Handler: ops(reg, page)}

	reg.Add("cache", cache, lifecycle.WithHealthCheck(check()))
	reg.Add("orders", orders, lifecycle.WithHealthCheck(check()))
	reg.Add("api", lifecycle.HTTPServer(api), lifecycle.WithDependencies("cache", "orders"))
	reg.Add("probes", lifecycle.HTTPServer(probes), lifecycle.WithOps())
	reg.Add("status", page, lifecycle.WithOps())
	return reg.Run(ctx)
}

// ops serves the kubelet and Prometheus, and operators who forward the port.
func ops(reg *lifecycle.Registry, page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", health.Handler(reg.Health(), health.WithDetails(forwarded)))
	mux.Handle("/metrics", metrics.Handler(reg))
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/debug/pprof/", statuspage.Profiles(forwarded))
	return mux
}

// forwarded says whether a request has come through kubectl port-forward, which connects from inside
// the pod: Kubernetes has asked for the operator's credentials.
func forwarded(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && net.ParseIP(host).IsLoopback()
}
