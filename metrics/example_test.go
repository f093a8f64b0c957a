package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
)

func ExampleHandler() {
	reg := lifecycle.New(lifecycle.Config{})
	reg.Add("api", lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0"}))

	ops := http.NewServeMux()
	ops.Handle("/metrics", metrics.Handler(reg))
	reg.Add("ops", lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: ops}), lifecycle.WithOps())

	answer := httptest.NewRecorder() // Prometheus asks over the network
	ops.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "poolkeeper_server_requests_total") {
			fmt.Print(line)
		}
	}
	// Output:
	// poolkeeper_server_requests_total{component="api"} 0
	// poolkeeper_server_requests_total{component="ops"} 0
}

func ExampleNewCollector() {
	reg := lifecycle.New(lifecycle.Config{})
	reg.Add("migration", lifecycle.Hooks{})

	own := prometheus.NewRegistry()
	own.MustRegister(metrics.NewCollector(reg)) // beside metrics of the service

	families, err := own.Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range families {
		if f.GetName() == "poolkeeper_component_state" {
			fmt.Println(f.GetName(), len(f.GetMetric()))
		}
	}
	// Output: poolkeeper_component_state 10
}
