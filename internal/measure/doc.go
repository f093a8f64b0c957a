// Package measure reads a registry into numbers with names. Both exporters of metrics translate its
// samples, so that they cannot disagree.
//
//	             ┌─ Components: Stats, ServerStats, Expiries ─┐                ┌─▶ metrics      Prometheus
//	Registry ────┼─ Status                                    ├─▶ Read ─Sample─┤
//	             └─ Health().Report ──────────────────────────┘     ▲          └─▶ otelmetrics  OpenTelemetry
//	                                                              Table ──────────▶ ops/         rules, dashboard
//
//	for s := range measure.Of(reg).Read() {
//		fmt.Println(s.Metric.Name, s.Labels(), s.Value)
//	}
//
// Table is the only place that knows the name, unit, type and labels of a metric. Names of pool
// metrics are those of OpenTelemetry's semantic conventions where these have one. The labels are
// bounded: names of components, checks, groups and members, and words of this library. No error
// text, no statement and no credential is among them.
//
// It refuses to know an exporter, to keep numbers between two reads, and to run anything in the
// background.
package measure
