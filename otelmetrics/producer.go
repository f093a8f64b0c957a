package otelmetrics

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// producer translates the histograms of one registry.
type producer struct {
	from  *measure.Source
	start time.Time
}

// NewProducer returns a producer of the histograms of reg, for sdkmetric.WithProducer of a reader:
// how long connections took to open, to be acquired, and were held. Their temporality is cumulative,
// whatever the reader prefers for its instruments. It is safe for concurrent use, starts nothing and
// needs no closing. Call it when the registry is made: it is the start of the time series.
func NewProducer(reg *lifecycle.Registry) sdkmetric.Producer {
	return &producer{from: measure.Of(reg), start: time.Now()}
}

// Produce returns the histograms as they are now. It does no I/O.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	points := map[*measure.Metric][]metricdata.HistogramDataPoint[float64]{}
	for s := range p.from.Read() {
		if s.Histogram != nil {
			points[s.Metric] = append(points[s.Metric], p.point(&s, now))
		}
	}
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: ScopeName}}
	for _, m := range measure.Table() {
		if len(points[m]) == 0 {
			continue
		}
		out.Metrics = append(out.Metrics, metricdata.Metrics{
			Name: m.OTel, Description: m.Help, Unit: m.Unit,
			Data: metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points[m]},
		})
	}
	if len(out.Metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{out}, nil
}

func (p *producer) point(s *measure.Sample, now time.Time) metricdata.HistogramDataPoint[float64] {
	bounds, counts := buckets(s.Histogram)
	return metricdata.HistogramDataPoint[float64]{
		Attributes: attributes(s), StartTime: p.start, Time: now,
		Count: s.Histogram.Count, Sum: s.Histogram.Sum, Bounds: bounds, BucketCounts: counts,
	}
}

// buckets returns the buckets as OpenTelemetry has them: each counts its own observations, and one
// more those above the last bound. In a pool of the user's own the counts may not rise.
func buckets(h *poolkeeper.Histogram) (bounds []float64, counts []uint64) {
	var below uint64
	for _, b := range h.Buckets {
		bounds = append(bounds, b.UpperBound)
		next := max(below, b.Count)
		counts = append(counts, next-below)
		below = next
	}
	return bounds, append(counts, max(below, h.Count)-below)
}
