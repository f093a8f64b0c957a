package main

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/poolkeeper/poolkeeper/health"
)

// withGin hands the whole family of paths to one handler, which looks at the path itself.
func withGin(m *health.Monitor) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	probes := gin.WrapH(health.Handler(m, health.WithDetails(details)))
	r := gin.New()
	for _, path := range []string{"/livez", "/startupz", "/readyz", "/readyz/:check"} {
		r.GET(path, probes)
		r.HEAD(path, probes)
	}
	return r
}
