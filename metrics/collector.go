package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// collector translates samples of one registry.
type collector struct {
	from  *measure.Source
	descs map[*measure.Metric]*prometheus.Desc // never changes
}

// NewCollector returns a collector of the numbers of reg, its components and its checks. reg may be
// in any phase. The collector is safe for concurrent use, starts nothing and needs no closing. To
// register collectors of two registries together, wrap one with prometheus.WrapRegistererWith.
func NewCollector(reg *lifecycle.Registry) prometheus.Collector {
	c := &collector{from: measure.Of(reg), descs: map[*measure.Metric]*prometheus.Desc{}}
	for _, m := range measure.Table() {
		c.descs[m] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	return c
}

// Describe sends the description of every metric.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect sends the present numbers of the registry. It does no I/O.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	labels := labelCache{}
	for s := range c.from.Read() {
		desc := c.descs[s.Metric]
		out <- &number{desc: desc, sample: s, labels: labels.of(desc, &s)}
	}
}
