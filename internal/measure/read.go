package measure

import (
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Sample is one number, or one distribution, of one metric.
type Sample struct {
	Metric    *Metric
	Value     float64               // unless the metric is a histogram
	Histogram *poolkeeper.Histogram // of histograms: nil for the others

	values [maxLabels]string
}

// Labels returns the values of the metric's labels, in their order.
func (s *Sample) Labels() []string { return s.values[:len(s.Metric.Labels)] }

// Source reads one registry. It is safe for concurrent use. It keeps nothing between two reads but
// which components do not answer.
type Source struct {
	reg   *lifecycle.Registry
	calls guard.Calls // by component
}

// Of returns a Source of a registry.
func Of(reg *lifecycle.Registry) *Source { return &Source{reg: reg} }

// Read yields the present numbers of the registry, its components and its checks. It yields no two
// samples of a metric with the same labels. It calls Stats and Expiries of the components, which take
// short locks and do no I/O. A component whose code panics, or does not return within a second, is
// left out. What is not known has no sample.
func (s *Source) Read() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		r := reader{source: s, yield: yield}
		r.components(s.reg)
		r.registry(s.reg.Status())
		r.health(s.reg.Health().Report())
	}
}

// reader passes samples on until its consumer has enough.
type reader struct {
	source *Source
	yield  func(Sample) bool
	now    time.Time // of the health report
	over   bool
}

func (r *reader) sample(s Sample) {
	if !r.over {
		r.over = !r.yield(s)
	}
}

// number yields one number. labels are the values of the metric's labels.
func (r *reader) number(m *Metric, v float64, labels ...string) {
	s := Sample{Metric: m, Value: v}
	copy(s.values[:], labels)
	r.sample(s)
}

func (r *reader) count(m *Metric, n int, labels ...string) { r.number(m, float64(n), labels...) }

func (r *reader) total(m *Metric, n uint64, labels ...string) { r.number(m, float64(n), labels...) }

func (r *reader) duration(m *Metric, d time.Duration, labels ...string) {
	r.number(m, d.Seconds(), labels...)
}

func (r *reader) truth(m *Metric, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	r.number(m, v, labels...)
}

// moment yields a time, unless it is zero.
func (r *reader) moment(m *Metric, t time.Time, labels ...string) {
	if !t.IsZero() {
		//nolint:forbidigo // scrapers compare it with their wall clock
		r.number(m, float64(t.UnixMilli())/1000, labels...)
	}
}

// age yields the age of a time, unless it is zero.
func (r *reader) age(m *Metric, t time.Time, labels ...string) {
	if !t.IsZero() {
		r.duration(m, max(r.now.Sub(t), 0), labels...)
	}
}

// choice yields a StateSet, as in OpenMetrics: 1 for the present word and 0 for the others. The number
// of a state could not be summed or averaged, and would change its meaning if a state was inserted.
func (r *reader) choice(m *Metric, is string, all []string, of ...string) {
	var labels [maxLabels]string
	n := copy(labels[:], of)
	for _, word := range all {
		labels[n] = word
		r.truth(m, word == is, labels[:n+1]...)
	}
}

// components yields the numbers of each component.
func (r *reader) components(reg *lifecycle.Registry) {
	seen := map[string]bool{}
	for name, c := range reg.Components() {
		if name = printable(name); seen[name] { // a fault that Start is going to report
			continue
		}
		seen[name] = true
		r.component(name, c)
		if r.over {
			return
		}
	}
}

func (r *reader) component(name string, c lifecycle.Component) {
	read, offers := reading(c)
	if !offers {
		return
	}
	got, answers := r.source.ask(name, read)
	r.truth(Unreadable, !answers, name)
	if !answers { // a scrape tells of all others
		return
	}
	if got.pool != nil {
		r.pool(name, got.pool)
	}
	if got.server != nil {
		r.server(name, got.server)
	}
	if got.streams != nil {
		r.streams(name, got.streams)
	}
	r.expiries(name, got.expiries)
}

// maxLabel bounds the length of a label, in bytes: that of the names of checks, which are made of
// two.
const maxLabel = 201

// printable makes a label of a name.
func printable(name string) string {
	if len(name) > maxLabel {
		name = name[:maxLabel]
	}
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, "\uFFFD")
	}
	return name
}
