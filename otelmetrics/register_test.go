package otelmetrics_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/otelmetrics"
)

var errNo = errors.New("no")

// refusing is a provider whose meters make no counters.
type refusing struct{ noop.MeterProvider }

func (refusing) Meter(string, ...metric.MeterOption) metric.Meter { return refusingMeter{} }

type refusingMeter struct{ noop.Meter }

func (refusingMeter) Int64ObservableCounter(string, ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	return nil, errNo
}

func TestAProviderThatRefusesIsAnError(t *testing.T) {
	if r, err := otelmetrics.Register(refusing{}, measuretest.New()); !errors.Is(err, errNo) || r != nil {
		t.Errorf("%v, %v", r, err)
	}
}

func TestNothingIsObservedAfterUnregister(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	registration, err := otelmetrics.Register(provider, measuretest.Pools(2))
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		var got metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &got); err != nil {
			t.Error(err)
		}
		for _, s := range got.ScopeMetrics {
			n += len(s.Metrics)
		}
		return n
	}
	var side sync.WaitGroup
	for range 4 {
		side.Go(func() {
			if count() == 0 {
				t.Error("nothing is observed")
			}
		})
	}
	side.Wait()
	if err := registration.Unregister(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d metrics are observed", n)
	}
}

func TestMetricsOfAnIdleRegistryHaveNoGoroutine(t *testing.T) {
	reg := measuretest.Pools(3)
	measuretest.Start(t, reg)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	before := runtime.NumGoroutine()
	if _, err := otelmetrics.Register(provider, reg); err != nil {
		t.Fatal(err)
	}
	otelmetrics.NewProducer(reg)
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines with metrics, %d without", after, before)
	}
}
