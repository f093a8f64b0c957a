// Command probes measures the probe handlers beside their peers and prints the table of
// docs/benchmarks.md. All contenders run in turn in one process; ratios and counts are what to
// trust.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds; the median counts")
	flag.Parse()
	testing.Init()
	if err := flag.Set("test.benchtime", "20ms"); err != nil {
		fmt.Fprintln(os.Stderr, "probes:", err)
		os.Exit(1)
	}
	fmt.Printf("%s, %d processors, median of %d rounds, contenders in turn.\n\n", runtime.Version(), runtime.NumCPU(), *rounds)
	table(*rounds)
	idle(10_000)
}

// contender answers for n healthy checks.
type contender struct {
	name    string
	handler func(n int) http.Handler
	path    string
}

func contenders() []contender {
	return []contender{
		{"limit: one pointer, prepared bytes", limitHandler, "/"},
		{"poolkeeper /readyz", poolkeeperHandler, "/readyz"},
		{"poolkeeper /readyz?verbose", poolkeeperHandler, "/readyz?verbose"},
		{"alexliesenfeld/health, no details", func(n int) http.Handler { return alexLiesenfeldHandler(n, false) }, "/"},
		{"alexliesenfeld/health, details", func(n int) http.Handler { return alexLiesenfeldHandler(n, true) }, "/"},
		{"go-sundheit, short", sundheitHandler, "/?type=short"},
		{"go-sundheit, full", sundheitHandler, "/"},
		{"hellofresh/health-go (runs its checks)", helloFreshHandler, "/"},
		{"k8s.io/apiserver healthz (runs its checks)", apiserverHandler, "/healthz"},
		{"controller-runtime healthz (runs its checks)", controllerRuntimeHandler, "/"},
	}
}

func table(rounds int) {
	fmt.Println("| ns per probe with n healthy checks | 1 | 10 | 100 | 1,000 | allocations at 100 | × limit at 100 |\n|---|---|---|---|---|---|---|")
	limit := limitHandler(1)
	for _, c := range contenders() {
		fmt.Printf("| %s |", c.name)
		var allocs int64
		var ratio float64
		for _, n := range []int{1, 10, 100, 1000} {
			h := c.handler(n)
			var ns, limits []float64
			for range rounds { // the limit right beside it, because a shared machine's speed drifts
				l, r := measure(limit, "/"), measure(h, c.path)
				limits, ns = append(limits, perOp(l)), append(ns, perOp(r))
				if n == 100 {
					allocs = r.AllocsPerOp()
				}
			}
			if n == 100 {
				ratio = median(ns) / median(limits)
			}
			fmt.Printf(" %.0f |", median(ns))
		}
		fmt.Printf(" %d | %.1f |\n", allocs, ratio)
	}
}

func perOp(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func measure(h http.Handler, path string) testing.BenchmarkResult {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	return testing.Benchmark(func(b *testing.B) { //nolint:thelper // the benchmark itself
		b.ReportAllocs()
		w := &nullWriter{header: http.Header{}}
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	})
}

// nullWriter costs nothing, so that the handler is what is measured.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(int)             {}
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }

// limitHandler is the least a probe can cost.
func limitHandler(int) http.Handler {
	var page atomic.Pointer[[]byte]
	body := []byte("ok\n")
	page.Store(&body)
	contentType, cache := []string{"text/plain; charset=utf-8"}, []string{"no-store"}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Cache-Control"] = contentType, cache
		_, _ = w.Write(*page.Load())
	})
}

func poolkeeperHandler(n int) http.Handler {
	return health.Handler(monitor(n), health.WithDetails(func(*http.Request) bool { return true }))
}

// monitor has n healthy checks, each with a result.
func monitor(n int) *health.Monitor {
	m := health.New(health.Config{Interval: time.Hour})
	for i := range n {
		if _, err := m.Register(health.Check{Name: checkName(i), Probe: works}); err != nil {
			panic(err) // names are unique
		}
	}
	if err := m.Start(context.Background()); err != nil {
		panic(err) // it was just made
	}
	for !m.Report().Ready() {
		time.Sleep(time.Millisecond)
	}
	return m
}

// idle states what many checks cost that have nothing to do.
func idle(n int) {
	runtime.GC()
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := monitor(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Printf("\n%d idle checks: %d goroutines, %.1f KiB each.\n", n, runtime.NumGoroutine()-goroutines,
		(float64(after.HeapAlloc)-float64(before.HeapAlloc))/1024/float64(n))
	runtime.KeepAlive(m)
}

func checkName(i int) string { return "check-" + strconv.Itoa(i) }
