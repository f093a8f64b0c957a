package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Handler returns a handler that answers a scrape with the numbers of reg, of Go's runtime and of
// the process. Mount it on a port that only operators reach: names of components tell how a service
// is built. It is safe for concurrent use and needs no closing. For metrics of your own beside them,
// use NewCollector and promhttp.
func Handler(reg *lifecycle.Registry) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister( // they have no name in common
		NewCollector(reg), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
