package statuspage_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// hundred is a registry with 100 pools that are in use, each with 31 settings, and full charts.
func hundred(b *testing.B) *statuspage.Page {
	b.Helper()
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, open())
	var names []string
	pools := make([]*fakePool, 100)
	for i := range pools {
		p := &fakePool{}
		p.stats = poolkeeper.Stats{Max: 20, Evicted: map[string]uint64{"idle": 1, "lifetime": 2}}
		for k := range 31 {
			p.settings = append(p.settings, slog.String(fmt.Sprintf("setting_%d", k), fmt.Sprintf("value %d", i)))
		}
		p.holders = []poolkeeper.Holder{{Kind: "tx", Since: time.Now(), Stack: fmt.Sprintf("api.(*Handler).List%d (/src/list.go:88)", i)}}
		pools[i] = p
		names = append(names, fmt.Sprintf("pool-%d", i))
		reg.Add(names[i], p)
	}
	reg.Add("api", lifecycle.Hooks{}, lifecycle.WithDependencies(names...))
	at := time.Now().Add(-10 * time.Minute)
	for k := range 300 {
		for i, p := range pools {
			p.stats.InUse, p.stats.Idle = (k*7+i)%15, 5
			p.stats.Wait = waits(uint64(k)*100, time.Duration(1+k%9)*time.Millisecond) //nolint:gosec // small
		}
		page.SampleOnce(at.Add(time.Duration(k) * 2 * time.Second))
	}
	return page
}

// What each two seconds cost while no page is open.
func BenchmarkSampleOf100Pools(b *testing.B) {
	page := hundred(b)
	b.ReportAllocs()
	for b.Loop() {
		page.SampleOnce(time.Now())
	}
}

// What each sample costs on top of it while pages are open, and the first request after it.
func BenchmarkRenderingOf100Pools(b *testing.B) {
	page := hundred(b)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
	var size int
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		page.SampleOnce(time.Now()) // what was made is old
		b.StartTimer()
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size)/1024, "KiB/page")
}

func BenchmarkJSONOf100Pools(b *testing.B) {
	page := hundred(b)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/status.json", nil)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		page.SampleOnce(time.Now())
		b.StartTimer()
		page.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// What a request costs when the page is made already, which is what all viewers but one see.
func BenchmarkRequestOfAPageThatIsMade(b *testing.B) {
	page := hundred(b)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		page.ServeHTTP(nothing{http.Header{}}, r)
	}
}

// nothing is a ResponseWriter that keeps nothing.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header         { return n.header }
func (n nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n nothing) WriteHeader(int)             {}
