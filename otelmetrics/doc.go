// Package otelmetrics exports the numbers of a registry to OpenTelemetry. It is a module of its own, so
// that OpenTelemetry enters only the module graphs of services that use it.
//
//	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(otelmetrics.NewProducer(reg)))
//	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
//	registration, err := otelmetrics.Register(provider, reg)
//
// A reader that collects gets both halves:
//
//	            ┌─▶ callback of Register ──▶ counters and gauges ─┐
//	registry ───┤                                                 ├─▶ reader ──▶ exporter
//	            └─▶ Producer ──────────────▶ histograms ──────────┘
//
// Histograms go through a Producer because OpenTelemetry has no instrument for a distribution that was
// counted elsewhere: pools count durations in buckets by themselves, on their data path, without an
// SDK. The names are those of the semantic conventions where these have one (db.client.connection.*,
// of stability "development"), and poolkeeper.* beyond. docs/metrics.md lists them.
//
// It refuses to record spans, to choose an exporter, and to show texts: no error, no statement and
// no credential is in an attribute. Nothing runs between two collections.
package otelmetrics
