package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/poolkeeper/poolkeeper/health"
)

// withEcho hands the whole family of paths to one handler, which looks at the path itself.
func withEcho(m *health.Monitor) http.Handler {
	probes := echo.WrapHandler(health.Handler(m, health.WithDetails(details)))
	e := echo.New()
	for _, path := range []string{"/livez", "/startupz", "/readyz", "/readyz/:check"} {
		e.Match([]string{http.MethodGet, http.MethodHead}, path, probes)
	}
	return e
}
