package measure_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// conventions are the metrics of connection pools in OpenTelemetry's semantic conventions v1.44.0, all
// of stability "development":
// https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/model/db/metrics.yaml. A later
// version that renames one has to be taken over here first.
var conventions = []struct {
	name, instrument, valueType, unit string
	attributes                        []string
}{
	{"db.client.connection.count", "updowncounter", "int", "{connection}", []string{"db.client.connection.pool.name", "db.client.connection.state"}},
	{"db.client.connection.idle.max", "updowncounter", "int", "{connection}", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.idle.min", "updowncounter", "int", "{connection}", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.max", "updowncounter", "int", "{connection}", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.pending_requests", "updowncounter", "int", "{request}", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.timeouts", "counter", "int", "{timeout}", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.create_time", "histogram", "double", "s", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.wait_time", "histogram", "double", "s", []string{"db.client.connection.pool.name"}},
	{"db.client.connection.use_time", "histogram", "double", "s", []string{"db.client.connection.pool.name"}},
}

func TestPoolMetricsFollowTheSemanticConventions(t *testing.T) {
	instruments := map[measure.Type]string{
		measure.UpDown: "updowncounter", measure.Counter: "counter", measure.Histogram: "histogram", measure.Gauge: "gauge",
	}
	ours := map[string]*measure.Metric{}
	for _, m := range measure.Table() {
		if strings.HasPrefix(m.OTel, "db.") {
			ours[m.OTel] = m
		}
	}
	for _, c := range conventions {
		m := ours[c.name]
		if m == nil {
			t.Errorf("no metric %s", c.name)
			continue
		}
		delete(ours, c.name)
		if got := instruments[m.Type]; got != c.instrument || m.Unit != c.unit || m.IsInteger() != (c.valueType == "int") {
			t.Errorf("%s is a %s in %q, integer %v", c.name, got, m.Unit, m.IsInteger())
		}
		var attributes []string
		for _, l := range m.Labels {
			attributes = append(attributes, measure.Attribute(l))
		}
		if !slices.Equal(attributes, c.attributes) {
			t.Errorf("%s has the attributes %q, want %q", c.name, attributes, c.attributes)
		}
	}
	for name := range ours {
		t.Errorf("%s is not in the conventions", name)
	}
}

// The names that OpenTelemetry's own exporters to Prometheus give, as in
// https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/.
func TestPrometheusNamesAreThoseOfTheConventions(t *testing.T) {
	for otel, want := range map[string]string{
		"db.client.connection.count":            "db_client_connection_count",
		"db.client.connection.idle.max":         "db_client_connection_idle_max",
		"db.client.connection.idle.min":         "db_client_connection_idle_min",
		"db.client.connection.max":              "db_client_connection_max",
		"db.client.connection.pending_requests": "db_client_connection_pending_requests",
		"db.client.connection.timeouts":         "db_client_connection_timeouts_total",
		"db.client.connection.create_time":      "db_client_connection_create_time_seconds",
		"db.client.connection.wait_time":        "db_client_connection_wait_time_seconds",
		"db.client.connection.use_time":         "db_client_connection_use_time_seconds",
	} {
		if m := measure.ByName(want); m == nil || m.OTel != otel {
			t.Errorf("%s is not the metric of %s", want, otel)
		}
	}
	if measure.ByName("db_client_connection") != nil {
		t.Error("a metric without a name")
	}
}

func TestEveryMetricIsDescribedOnce(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[string]bool{}
	for _, m := range measure.Table() {
		if seen[m.Name] || seen[m.OTel] {
			t.Errorf("%s is there twice", m.Name)
		}
		seen[m.Name], seen[m.OTel] = true, true
		if !name.MatchString(m.Name) || !strings.HasSuffix(m.Help, ".") || len(m.Labels) == 0 && m != measure.Phase {
			t.Errorf("%+v", m)
		}
		if (m.Type == measure.Counter) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Type)
		}
	}
}
