package main

import (
	"net/http"

	"github.com/poolkeeper/poolkeeper/health"
)

// netHTTP mounts everything at once.
func netHTTP(m *health.Monitor) http.Handler {
	return health.Handler(m, health.WithDetails(details))
}
