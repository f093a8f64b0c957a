package otelmetrics_test

import (
	"context"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/otelmetrics"
)

func ExampleRegister() {
	reg := lifecycle.New(lifecycle.Config{})
	reg.Add("migration", lifecycle.Hooks{})

	histograms := sdkmetric.WithProducer(otelmetrics.NewProducer(reg))
	reader := sdkmetric.NewManualReader(histograms) // or NewPeriodicReader(exporter, histograms)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	if _, err := otelmetrics.Register(provider, reg); err != nil { // counters and gauges
		fmt.Println(err)
	}

	var got metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &got); err != nil {
		fmt.Println(err)
	}
	for _, m := range got.ScopeMetrics[0].Metrics {
		if m.Name == "poolkeeper.component.restarts" {
			fmt.Println(m.Name, m.Unit)
		}
	}
	// Output: poolkeeper.component.restarts {restart}
}
