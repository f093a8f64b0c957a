package otelmetrics_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/otelmetrics"
)

// collect returns what a reader gets of a registry.
func collect(t *testing.T, reg *lifecycle.Registry) metricdata.ResourceMetrics {
	t.Helper()
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(otelmetrics.NewProducer(reg)))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	registration, err := otelmetrics.Register(provider, reg)
	if err != nil {
		t.Fatal(err)
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	if err := registration.Unregister(); err != nil {
		t.Error(err)
	}
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	return got
}

// numbers are all numbers, by Prometheus' name, labels and, of a histogram, bound.
type numbers map[string]float64

func (n numbers) add(t *testing.T, name string, labels []string, part string, v float64) {
	t.Helper()
	slices.Sort(labels)
	key := name + "{" + strings.Join(labels, ",") + "}" + part
	if _, twice := n[key]; twice {
		t.Errorf("%s is there twice", key)
	}
	n[key] = v
}

// fromSamples are what the registry says.
func fromSamples(t *testing.T, reg *lifecycle.Registry) numbers {
	t.Helper()
	all := numbers{}
	for s := range measure.Of(reg).Read() {
		var labels []string
		for i, v := range s.Labels() {
			labels = append(labels, measure.Attribute(s.Metric.Labels[i])+"="+v)
		}
		if s.Histogram == nil {
			all.add(t, s.Metric.Name, labels, "", s.Value)
			continue
		}
		for _, b := range s.Histogram.Buckets {
			all.add(t, s.Metric.Name, labels, fmt.Sprintf(" le %g", b.UpperBound), float64(b.Count))
		}
		all.add(t, s.Metric.Name, labels, " count", float64(s.Histogram.Count))
		all.add(t, s.Metric.Name, labels, " sum", s.Histogram.Sum)
	}
	return all
}

func fromOTel(t *testing.T, reg *lifecycle.Registry) numbers {
	t.Helper()
	names := map[string]*measure.Metric{}
	for _, m := range measure.Table() {
		names[m.OTel] = m
	}
	all := numbers{}
	for _, scope := range collect(t, reg).ScopeMetrics {
		if scope.Scope.Name != otelmetrics.ScopeName {
			t.Errorf("scope %q", scope.Scope.Name)
		}
		for _, m := range scope.Metrics {
			is := names[m.Name]
			if is == nil || is.Unit != m.Unit || is.Help != m.Description {
				t.Errorf("%s, in %q (%s), is not in the table", m.Name, m.Unit, m.Description)
				continue
			}
			all.take(t, is, m.Data)
		}
	}
	return all
}

func (n numbers) take(t *testing.T, m *measure.Metric, data metricdata.Aggregation) {
	t.Helper()
	var monotonic, sum, histogram bool
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		monotonic, sum = d.IsMonotonic, true
		each(t, n, m, d.DataPoints)
	case metricdata.Sum[float64]:
		monotonic, sum = d.IsMonotonic, true
		each(t, n, m, d.DataPoints)
	case metricdata.Gauge[int64]:
		each(t, n, m, d.DataPoints)
	case metricdata.Gauge[float64]:
		each(t, n, m, d.DataPoints)
	case metricdata.Histogram[float64]:
		histogram = true
		if d.Temporality != metricdata.CumulativeTemporality {
			t.Errorf("%s is not cumulative", m.OTel)
		}
		for _, p := range d.DataPoints {
			n.histogram(t, m, p)
		}
	default:
		t.Errorf("%s has data of type %T", m.OTel, data)
	}
	want := map[measure.Type][3]bool{measure.Counter: {true, true, false}, measure.UpDown: {false, true, false}, measure.Histogram: {false, false, true}}[m.Type]
	if got := [3]bool{monotonic, sum, histogram}; got != want {
		t.Errorf("%s: monotonic, sum, histogram are %v, want %v", m.OTel, got, want)
	}
}

func each[N int64 | float64](t *testing.T, n numbers, m *measure.Metric, points []metricdata.DataPoint[N]) {
	t.Helper()
	for _, p := range points {
		n.add(t, m.Name, labels(p.Attributes), "", float64(p.Value))
	}
}

func (n numbers) histogram(t *testing.T, m *measure.Metric, p metricdata.HistogramDataPoint[float64]) {
	t.Helper()
	of := labels(p.Attributes)
	var below uint64
	for i, bound := range p.Bounds {
		below += p.BucketCounts[i]
		n.add(t, m.Name, of, fmt.Sprintf(" le %g", bound), float64(below))
	}
	if below += p.BucketCounts[len(p.Bounds)]; below != p.Count {
		t.Errorf("%s has %d observations in buckets, of %d", m.OTel, below, p.Count)
	}
	n.add(t, m.Name, of, " count", float64(p.Count))
	n.add(t, m.Name, of, " sum", p.Sum)
}

func labels(set attribute.Set) (out []string) {
	for _, kv := range set.ToSlice() {
		out = append(out, string(kv.Key)+"="+kv.Value.AsString())
	}
	return out
}

// That both exporters agree is tested in integration/metrics.
func TestAReaderGetsEveryNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := measuretest.Everything(t)
		want, got := fromSamples(t, reg), fromOTel(t, reg)
		if len(want) < 300 {
			t.Fatalf("%d numbers", len(want))
		}
		for key, v := range want {
			if has, ok := got[key]; !ok || has != v {
				t.Errorf("%s is %v, and the reader gets %v (%v)", key, v, has, ok)
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("%s is got from nowhere", key)
			}
			if strings.Contains(key, measuretest.Secret) {
				t.Errorf("%s shows the secret", key) // INV-12
			}
		}
	})
}

func TestAnEmptyRegistryHasNoHistograms(t *testing.T) {
	got, err := otelmetrics.NewProducer(measuretest.New()).Produce(t.Context())
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// A pool of the user's own may count what cannot be.
func TestBucketsThatDoNotRiseCountNothing(t *testing.T) {
	reg := measuretest.New()
	reg.Add("own", &measuretest.Pool{Numbers: func() poolkeeper.Stats {
		return poolkeeper.Stats{Wait: poolkeeper.Histogram{Count: 3, Buckets: []poolkeeper.Bucket{{UpperBound: 1, Count: 5}, {UpperBound: 2, Count: 4}, {UpperBound: 3, Count: 7}}}}
	}})
	got, err := otelmetrics.NewProducer(reg).Produce(t.Context())
	if err != nil || len(got) != 1 || len(got[0].Metrics) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	h, ok := got[0].Metrics[0].Data.(metricdata.Histogram[float64])
	if !ok || !slices.Equal(h.DataPoints[0].BucketCounts, []uint64{5, 0, 2, 0}) {
		t.Errorf("%+v", got[0].Metrics[0].Data)
	}
}
