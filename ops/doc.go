// Package ops has what watches a service: rules for Prometheus and a dashboard for Grafana. It has no
// code of its own but the tests that keep the files right.
//
//	service ──/metrics──▶ Prometheus ◀── rules.yaml ──▶ alerts ──▶ a section of docs/operations.md
//	                          ▲
//	                          └── Grafana ◀── dashboard.json
//
// The files are written by internal/generate:
//
//	go test ./ops -update
//
// A service takes rules.yaml into rule_files of its Prometheus, and imports dashboard.json into its
// Grafana; docs/metrics.md says how. It refuses to route alerts: the Alertmanager of the service decides
// which severity pages which person.
package ops
