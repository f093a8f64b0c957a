package main

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/poolkeeper/poolkeeper/health"
)

// withChi mounts the handlers one by one. chi sets the request's path values, so that {check} names
// a single check.
func withChi(m *health.Monitor) http.Handler {
	r := chi.NewRouter()
	show := health.WithDetails(details)
	r.Handle("/livez", health.GroupHandler(m, health.GroupLive, show))
	r.Handle("/readyz", health.GroupHandler(m, health.GroupReady, show))
	r.Handle("/readyz/{check}", health.GroupHandler(m, health.GroupReady, show))
	r.Handle("/startupz", health.GroupHandler(m, health.GroupStartup, show))
	return r
}
