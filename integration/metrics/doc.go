// Package metrics shows that both exporters of metrics say the same. It has a test only. It is a module
// of its own, so that neither exporter has the other's dependencies in its module graph.
//
//	registry ──▶ metrics ──────────────────────────────────────────▶ text
//	         └─▶ otelmetrics ──▶ OpenTelemetry's Prometheus exporter ──▶ the same text
//
// It refuses to test what an exporter says: the tests of the exporters do.
package metrics
