package metrics_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

const pools = 100

// mostAllocs is the budget for each series, the text of the answer included.
const mostAllocs = 20

func scraped(tb testing.TB) (h http.Handler, series int) {
	tb.Helper()
	reg := measuretest.Pools(pools)
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.NewCollector(reg))
	h = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if series < 50*pools {
		tb.Fatalf("%d series of %d pools", series, pools)
	}
	return h, series
}

type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (n nowhere) WriteHeader(int)             {}

func TestASeriesCostsTwentyAllocationsAtMost(t *testing.T) {
	h, series := scraped(t)
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	allocs := testing.AllocsPerRun(5, func() { h.ServeHTTP(nowhere{http.Header{}}, req) })
	if per := allocs / float64(series); per > mostAllocs {
		t.Errorf("%.1f allocations for each of %d series, want %d", per, series, mostAllocs)
	} else {
		t.Logf("%.1f allocations for each of %d series", per, series)
	}
}

func BenchmarkScrapeOf100Pools(b *testing.B) {
	h, series := scraped(b)
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(nowhere{http.Header{}}, req)
	}
	b.ReportMetric(float64(series), "series")
}

func TestMetricsAndStatusPageOfAnIdleRegistryHaveNoGoroutine(t *testing.T) {
	reg := measuretest.Pools(3)
	measuretest.Start(t, reg)
	before := runtime.NumGoroutine()
	page := statuspage.New(reg, statuspage.Config{})
	if err := page.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for _, h := range []http.Handler{metrics.Handler(reg), page} {
		h.ServeHTTP(nowhere{http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil))
	}
	testkit.Eventually(t, "there are no more goroutines than without", func() bool { return runtime.NumGoroutine() <= before })
}
