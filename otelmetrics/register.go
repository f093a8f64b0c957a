package otelmetrics

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// ScopeName is the name of the instrumentation scope.
const ScopeName = "github.com/poolkeeper/poolkeeper/otelmetrics"

// Register exports the counters and gauges of reg through observable instruments of provider. reg may
// be in any phase. Each collection reads the numbers; nothing runs in between. For the histograms, give
// the provider's reader a NewProducer too. Unregister of the result ends the export; after a shutdown
// of the provider it is not needed. Register a registry once with a provider: a second time would
// observe each number twice.
func Register(provider metric.MeterProvider, reg *lifecycle.Registry) (metric.Registration, error) {
	meter := provider.Meter(ScopeName)
	made := instruments{}
	var all []metric.Observable
	var faults []error
	for _, m := range measure.Table() {
		if m.Type == measure.Histogram {
			continue
		}
		i, err := newInstrument(meter, m)
		if err != nil {
			faults = append(faults, fmt.Errorf("otelmetrics: make %q: %w", m.OTel, err))
			continue
		}
		made[m] = i
		all = append(all, i.observable)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	from := measure.Of(reg)
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for s := range from.Read() {
			made.observe(o, &s)
		}
		return nil
	}, all...)
	if err != nil {
		return nil, fmt.Errorf("otelmetrics: register the callback: %w", err)
	}
	return registration, nil
}

// instruments by their metrics.
type instruments map[*measure.Metric]instrument

// instrument has one of whole and fraction.
type instrument struct {
	observable metric.Observable
	whole      metric.Int64Observable
	fraction   metric.Float64Observable
}

func (all instruments) observe(o metric.Observer, s *measure.Sample) {
	i, known := all[s.Metric]
	switch {
	case !known: // a histogram
	case i.whole != nil:
		o.ObserveInt64(i.whole, int64(s.Value), metric.WithAttributeSet(attributes(s)))
	default:
		o.ObserveFloat64(i.fraction, s.Value, metric.WithAttributeSet(attributes(s)))
	}
}

// attributes returns the labels of a sample under their names in OpenTelemetry.
func attributes(s *measure.Sample) attribute.Set {
	values := s.Labels()
	kvs := make([]attribute.KeyValue, len(values))
	for i, v := range values {
		kvs[i] = attribute.String(measure.Attribute(s.Metric.Labels[i]), v)
	}
	return attribute.NewSet(kvs...)
}

func newInstrument(meter metric.Meter, m *measure.Metric) (instrument, error) {
	if m.IsInteger() {
		i, err := newWhole(meter, m)
		return instrument{observable: i, whole: i}, err
	}
	i, err := newFraction(meter, m)
	return instrument{observable: i, fraction: i}, err
}

func newWhole(meter metric.Meter, m *measure.Metric) (metric.Int64Observable, error) {
	help, unit := metric.WithDescription(m.Help), metric.WithUnit(m.Unit)
	switch m.Type {
	case measure.Counter:
		return meter.Int64ObservableCounter(m.OTel, help, unit)
	case measure.UpDown:
		return meter.Int64ObservableUpDownCounter(m.OTel, help, unit)
	case measure.Gauge, measure.Histogram:
	}
	return meter.Int64ObservableGauge(m.OTel, help, unit)
}

func newFraction(meter metric.Meter, m *measure.Metric) (metric.Float64Observable, error) {
	help, unit := metric.WithDescription(m.Help), metric.WithUnit(m.Unit)
	switch m.Type {
	case measure.Counter:
		return meter.Float64ObservableCounter(m.OTel, help, unit)
	case measure.UpDown:
		return meter.Float64ObservableUpDownCounter(m.OTel, help, unit)
	case measure.Gauge, measure.Histogram:
	}
	return meter.Float64ObservableGauge(m.OTel, help, unit)
}
