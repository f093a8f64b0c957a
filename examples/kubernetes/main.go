// Command kubernetes is a service that keeps orders. The manifests beside it deploy it: a base, an
// overlay for each environment, and a canary. docs/kubernetes.md explains each choice.
//
//	base ──▶ overlays/dev, staging, prod ──▶ Deployment, HorizontalPodAutoscaler, …
//	  └── config/service.yaml ──▶ ConfigMap ──▶ directory ──▶ config.Load, config.Watch
//
// Its tests build each overlay, check the objects against each other and against the program, and run
// the program with the overlay's own file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	err := run(context.Background(), os.Args[1:], log) //nolint:forbidigo // main has no caller
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		log.Error("orders: the service ends with an error", slog.Any("error", err))
		os.Exit(1)
	}
}

// options are the flags of the program.
type options struct {
	config, environment string
	every, soak         time.Duration
	stage               int
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("orders", flag.ContinueOnError)
	f.StringVar(&o.config, "config", "/etc/orders/config/service.yaml", "the file of all connections")
	f.StringVar(&o.environment, "environment", "", "the environment of the file; required")
	f.DurationVar(&o.every, "every", 5*time.Second, "how often to look at the file")
	f.DurationVar(&o.soak, "soak", 2*time.Minute, "how long to watch a change before it is kept")
	f.IntVar(&o.stage, "stage", 100, "percentage of instances that make a change at once")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("orders: arguments %q are not flags", strings.Join(f.Args(), " "))
	case o.environment == "":
		return o, errors.New("orders: -environment is not set; it must be one of the file's environments")
	}
	return o, nil
}

func run(ctx context.Context, args []string, log *slog.Logger) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	f, err := config.Load(o.config, config.Environment(o.environment), config.Logger(log))
	if err != nil {
		return err
	}
	reg, err := service(f, o, log)
	if err != nil {
		return errors.Join(err, f.Abort())
	}
	return reg.Run(ctx)
}

// service adds the components of the file, and the watcher of the file, to a registry.
func service(f *config.File, o options, log *slog.Logger) (*lifecycle.Registry, error) {
	cache, err1 := f.Redis("cache")
	orders, err2 := f.Postgres("orders")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	settings := f.Lifecycle()
	settings.Logger = log
	reg := lifecycle.New(settings)
	page := statuspage.New(reg, statuspage.Config{Name: "orders", Allow: forwarded})
	f.Serve("api", api(cache, orders))
	f.Serve("ops", ops(reg, page))
	if err := f.AddTo(reg); err != nil {
		return nil, err
	}
	reg.Add("status", page, lifecycle.WithOps())
	reg.Add("config", config.Watch(f, config.Every(o.every), config.Soak(o.soak), config.Stage(o.stage)))
	return reg, nil
}

// api serves the number of orders, from the cache if it can.
func api(cache *redispool.Pool, orders *sqlpool.Postgres) http.Handler {
	const key, fresh = "orders", time.Second
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		n, err := cache.Client().Get(r.Context(), key).Int()
		if err != nil { // a miss, or no cache
			if err := orders.Pool().QueryRow(r.Context(), "SELECT 7").Scan(&n); err != nil {
				http.Error(w, "try again", http.StatusServiceUnavailable)
				return
			}
			_ = cache.Client().Set(r.Context(), key, n, fresh).Err() // the next request tries again
		}
		_, _ = fmt.Fprintln(w, n)
	})
	return mux
}

// ops serves the kubelet, Prometheus, and operators that forward the port.
func ops(reg *lifecycle.Registry, page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", health.Handler(reg.Health(), health.WithDetails(forwarded)))
	mux.Handle("/metrics", metrics.Handler(reg))
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/debug/pprof/", statuspage.Profiles(forwarded))
	return mux
}

// forwarded reports whether a request came through kubectl port-forward, which connects from inside
// the pod. Kubernetes has then authenticated the operator.
func forwarded(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && net.ParseIP(host).IsLoopback()
}
