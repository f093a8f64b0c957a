package metrics_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/otelmetrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the text that Prometheus gets of a gatherer.
func scrape(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// throughOTel returns a gatherer of a registry by OpenTelemetry's own exporter to Prometheus.
func throughOTel(t *testing.T, reg *lifecycle.Registry) prometheus.Gatherer {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(r), otelprometheus.WithProducer(otelmetrics.NewProducer(reg)),
		otelprometheus.WithoutTargetInfo(), otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithResourceAsConstantLabels(func(attribute.KeyValue) bool { return false }),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := otelmetrics.Register(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)), reg); err != nil {
		t.Fatal(err)
	}
	return r
}

// Names, types, help, labels and numbers: the two texts are the same. So are the rules and the
// dashboard that serve them.
func TestBothExportersSayTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := measuretest.Everything(t)
		ours := prometheus.NewPedanticRegistry()
		ours.MustRegister(metrics.NewCollector(reg))
		direct, through := scrape(t, ours), scrape(t, throughOTel(t, reg))
		if n := strings.Count(direct, "\n"); n < 400 {
			t.Fatalf("%d lines", n)
		}
		if direct == through {
			return
		}
		for line := range strings.Lines(direct) {
			if !strings.Contains(through, line) {
				t.Errorf("by metrics only: %s", line)
			}
		}
		for line := range strings.Lines(through) {
			if !strings.Contains(direct, line) {
				t.Errorf("by otelmetrics only: %s", line)
			}
		}
		t.Error("the texts differ")
	})
}
