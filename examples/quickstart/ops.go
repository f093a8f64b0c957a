package main

import (
	"net/http"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// addOps adds what operators look at: probes, a status page, metrics and profiles, all on one
// address. The server is up first and down last, so that it answers throughout.
func addOps(reg *lifecycle.Registry, addr string) *lifecycle.Server {
	// Only operators reach this address. A service that shows it to others looks at the request.
	operators := func(*http.Request) bool { return true }
	page := statuspage.New(reg, statuspage.Config{Name: "quickstart", Allow: operators})
	mux := http.NewServeMux()
	mux.Handle("/", health.Handler(reg.Health(), health.WithDetails(operators)))
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/metrics", metrics.Handler(reg))
	mux.Handle("/debug/pprof/", statuspage.Profiles(operators))
	srv := lifecycle.HTTPServer(&http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: readHeaderTimeout})
	reg.Add("probes", srv, lifecycle.WithOps())
	reg.Add("status", page, lifecycle.WithOps())
	return srv
}
