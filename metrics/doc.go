// Package metrics exports the numbers of a registry to Prometheus. It is a module of its own, so that
// Prometheus' client enters only the module graphs of services that use it.
//
//	mux.Handle("/metrics", metrics.Handler(reg))            // with metrics of Go and of the process
//	prometheus.MustRegister(metrics.NewCollector(reg))      // beside metrics of your own
//
// What a scrape does:
//
//	scrape ──▶ Collector ──▶ reg: Components, Status, Health().Report()
//	                  │            each pool's Stats, each server's Stats
//	                  └──▶ db_client_connection_*, poolkeeper_*
//
// It reads counters and takes short locks. No check runs, no server is asked, and nothing is kept or
// done between two scrapes. Pools, checks and components that are added later are in the next scrape.
// docs/metrics.md lists the metrics, says which of them matter, and what a scrape costs.
//
// It refuses to push, to sample in the background, and to show texts: no error, no statement and no
// credential is in a label.
package metrics
