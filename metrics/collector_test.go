package metrics_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
)

var update = flag.Bool("update", false, "write the golden file anew")

// text is a scrape of the collector alone.
func text(t *testing.T, reg *lifecycle.Registry) string {
	t.Helper()
	var b bytes.Buffer
	for _, family := range gather(t, reg) {
		if _, err := expfmt.MetricFamilyToText(&b, family); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func gather(tb testing.TB, reg *lifecycle.Registry) []*dto.MetricFamily {
	tb.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewCollector(reg))
	families, err := r.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	return families
}

// varying are the numbers that depend on when each check runs first, which is random.
var varying = regexp.MustCompile(`(?m)^(poolkeeper_(?:check_age_seconds|check_runs_total|check_failed_runs_total|check_failures|heartbeat_age_seconds){.*}) \S+$`)

func TestAScrapeOfEverythingIsTheGoldenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := varying.ReplaceAllString(text(t, measuretest.Everything(t)), "$1 …")
		file := filepath.Join("testdata", "everything.prom")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the scrape differs from %s; if the change is meant: go test . -update\n%s", file, differing(string(want), got))
		}
		if strings.Contains(got, measuretest.Secret) {
			t.Error("it shows the secret") // INV-12
		}
	})
}

// differing returns the lines that only one of two scrapes has.
func differing(want, got string) string {
	var b strings.Builder
	for _, side := range []struct{ mark, lines, other string }{{"- ", want, got}, {"+ ", got, want}} {
		for line := range strings.Lines(side.lines) {
			if !strings.Contains(side.other, line) {
				b.WriteString(side.mark + line)
			}
		}
	}
	return b.String()
}

// The conventions give the gauge of connections a name that ends in _count, which Prometheus keeps for
// histograms and summaries. promlint has no other complaint.
func TestPromlintComplainsOfTheConventionsCountOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		problems, err := testutil.CollectAndLint(metrics.NewCollector(measuretest.Everything(t)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if p.Metric != measure.Count.Name || !strings.Contains(p.Text, `"_count"`) {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
		if len(problems) != 1 {
			t.Errorf("%d complaints, want that of %s", len(problems), measure.Count.Name)
		}
	})
}

func TestScrapesMayRunSideBySideAndDuringAShutdown(t *testing.T) {
	reg := measuretest.Pools(10)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(metrics.NewCollector(reg))
	var scrapers sync.WaitGroup
	for range 4 {
		scrapers.Go(func() {
			for range 20 {
				if _, err := r.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := reg.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	scrapers.Wait()
}

// Two registries of a process are told apart by a label of the user's.
func TestTwoRegistriesAreToldApartByALabel(t *testing.T) {
	r := prometheus.NewRegistry()
	for _, tenant := range []string{"a", "b"} {
		prometheus.WrapRegistererWith(prometheus.Labels{"tenant": tenant}, r).MustRegister(metrics.NewCollector(measuretest.Pools(1)))
	}
	if n, err := testutil.GatherAndCount(r, measure.Max.Name); n != 2 || err != nil {
		t.Errorf("%d series (%v), want 2", n, err)
	}
}
