// Package generate makes the files of ops/: Prometheus' rules, their unit tests, and Grafana's
// dashboard. Every name of a metric or a label comes from internal/measure, so that a metric that is
// renamed there does not compile, or fails a test, here.
//
//	internal/measure ──▶ Alerts, Records, Panels ──▶ Rules      ops/rules.yaml
//	                                             ├─▶ RuleTests  ops/rules_test.yaml
//	                                             └─▶ Dashboard  ops/dashboard.json
//
//	go test ./ops -update   // writes the files anew
//
// It refuses to decide who is paged: it sets the label severity to critical, warning or info.
package generate
