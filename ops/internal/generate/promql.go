package generate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// Labels that Prometheus adds to all series of a target.
const (
	job      = "job"
	instance = "instance"
)

// is returns a matcher of a label.
func is(label, value string) string { return fmt.Sprintf("%s=%q", label, value) }

// among returns a matcher of a label that may have several values.
func among(label string, values ...string) string {
	return fmt.Sprintf("%s=~%q", label, strings.Join(values, "|"))
}

// of returns a selector of the metric's series. It panics if the metric has no such label: the
// generator is wrong then, and its tests say so.
func of(m *measure.Metric, matchers ...string) string { return selector(m, "", matchers) }

// bucketOf is of for the buckets of a histogram.
func bucketOf(m *measure.Metric, matchers ...string) string { return selector(m, "_bucket", matchers) }

func selector(m *measure.Metric, suffix string, matchers []string) string {
	for _, matcher := range matchers {
		label := matcher[:strings.IndexAny(matcher, "=!")]
		if label != job && label != instance && (label != "le" || suffix == "") && !slices.Contains(m.Labels, label) {
			panic(fmt.Sprintf("generate: %s has no label %q", m.Name, label))
		}
	}
	if (m.Type == measure.Histogram) != (suffix != "") {
		panic(fmt.Sprintf("generate: %s is a %s", m.Name, m.Type))
	}
	if len(matchers) == 0 {
		return m.Name + suffix
	}
	return m.Name + suffix + "{" + strings.Join(matchers, ", ") + "}"
}

// rate returns the growth for each second of a selector of a counter.
func rate(selector, window string) string { return "rate(" + selector + "[" + window + "])" }

// by aggregates an expression over all but the labels.
func by(aggregate, expr string, labels ...string) string {
	return aggregate + " by (" + strings.Join(labels, ", ") + ") (" + expr + ")"
}

// byPool aggregates over the instances of a service.
func byPool(aggregate, expr string) string { return by(aggregate, expr, job, measure.LabelPool) }

// duration is d as Prometheus writes it.
func duration(d time.Duration) string {
	if d%time.Minute != 0 {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	text := strings.TrimSuffix(d.String(), "0s")
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
