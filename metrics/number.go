package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// number is a sample as Prometheus has it: what prometheus.NewConstMetric and NewConstHistogram make,
// with less to allocate.
type number struct {
	desc   *prometheus.Desc
	sample measure.Sample
	labels []*dto.LabelPair // in order; shared by several numbers, never changes
}

// Desc returns the description of the metric.
func (n *number) Desc() *prometheus.Desc { return n.desc }

// Write fills in out.
func (n *number) Write(out *dto.Metric) error {
	out.Label = n.labels
	switch n.sample.Metric.Type {
	case measure.Histogram:
		out.Histogram = distribution(n.sample.Histogram)
	case measure.Counter:
		out.Counter = &dto.Counter{Value: &n.sample.Value}
	case measure.Gauge, measure.UpDown:
		out.Gauge = &dto.Gauge{Value: &n.sample.Value}
	}
	return nil
}

// distribution has the buckets that are cumulative in both.
func distribution(h *poolkeeper.Histogram) *dto.Histogram {
	out := &dto.Histogram{SampleCount: &h.Count, SampleSum: &h.Sum, Bucket: make([]*dto.Bucket, len(h.Buckets))}
	all := make([]dto.Bucket, len(h.Buckets))
	for i := range h.Buckets {
		all[i].UpperBound, all[i].CumulativeCount = &h.Buckets[i].UpperBound, &h.Buckets[i].Count
		out.Bucket[i] = &all[i]
	}
	return out
}

// labelCache has the labels of one scrape that are made already: all metrics of a pool but a few have
// its name for their only label.
type labelCache map[only][]*dto.LabelPair

// only is the only label of a metric.
type only struct{ name, value string }

func (c labelCache) of(desc *prometheus.Desc, s *measure.Sample) []*dto.LabelPair {
	values := s.Labels()
	if len(values) > 1 {
		return prometheus.MakeLabelPairs(desc, values)
	}
	key := only{s.Metric.Labels[0], values[0]}
	if made, ok := c[key]; ok {
		return made
	}
	made := slices.Clip(prometheus.MakeLabelPairs(desc, values)) // code that adds a label copies them
	c[key] = made
	return made
}
