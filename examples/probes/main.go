// Command probes mounts the probe handlers on net/http, chi, gin and echo. They are plain
// http.Handlers: there is nothing to adapt.
//
//	go run . -router chi        # or nethttp, gin, echo
//	curl -i 127.0.0.1:8081/readyz
//	curl '127.0.0.1:8081/readyz?verbose'
//	curl -H 'Accept: application/health+json' 127.0.0.1:8081/readyz/database
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// routers are the ways to mount the handlers.
//
//nolint:gochecknoglobals // a constant table
var routers = map[string]func(*health.Monitor) http.Handler{
	"nethttp": netHTTP,
	"chi":     withChi,
	"gin":     withGin,
	"echo":    withEcho,
}

func main() {
	//nolint:forbidigo // main has no context
	if err := run(context.Background(), os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "probes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probes", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8081", "`address` of the probes")
	router := flags.String("router", "nethttp", "`nethttp, chi, gin or echo`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mount, ok := routers[*router]
	if !ok {
		return fmt.Errorf("-router is %q; it must be nethttp, chi, gin or echo", *router)
	}
	reg := lifecycle.New(lifecycle.Config{})
	reg.Add("database", database{}, lifecycle.WithHealthCheck(health.Check{Interval: time.Second}))
	server := &http.Server{Addr: *addr, Handler: mount(reg.Health()), ReadHeaderTimeout: 5 * time.Second}
	reg.Add("probes", lifecycle.HTTPServer(server), lifecycle.WithOps())
	return reg.Run(ctx)
}

// details reports whether a request may read names and error texts. Only requests from this machine
// may.
func details(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().IsLoopback()
}

// database stands for a pool: it is checked, and works.
type database struct{}

func (database) Start(context.Context) error { return nil }
func (database) Stop(context.Context) error  { return nil }
func (database) Check(context.Context) error { return nil }
