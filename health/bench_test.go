package health_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// limitHandler is the least a probe can cost: load a pointer, set two headers, write prepared
// bytes.
type limitHandler struct {
	page    atomic.Pointer[[]byte]
	typ, no []string
}

func (h *limitHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body := h.page.Load()
	header := w.Header()
	header["Content-Type"] = h.typ
	header["Cache-Control"] = h.no
	_, _ = w.Write(*body)
}

// nullWriter is a ResponseWriter that costs nothing, so that the handler is what is measured.
type nullWriter struct {
	header http.Header
	code   int
	bytes  int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(code int)        { w.code = code }
func (w *nullWriter) Write(b []byte) (int, error) { w.bytes += len(b); return len(b), nil }

// bareRequest has no headers, as when peers are compared.
func bareRequest(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

// kubeletRequest has the headers the kubelet sends.
func kubeletRequest(path string) *http.Request {
	r := bareRequest(path)
	r.Header.Set("User-Agent", "kube-probe/1.34")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("Connection", "close")
	return r
}

func benchmarkHandler(b *testing.B, h http.Handler, r *http.Request) {
	b.Helper()
	w := &nullWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// startedMonitor has n healthy checks, each with a result.
func startedMonitor(tb testing.TB, n int) *health.Monitor {
	tb.Helper()
	m := health.New(health.Config{Interval: time.Minute})
	for i := range n {
		c := health.Check{Name: fmt.Sprintf("check-%04d", i), Probe: func(context.Context) error { return nil }}
		if _, err := m.Register(c); err != nil {
			tb.Fatal(err)
		}
	}
	if err := m.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	for end := time.Now().Add(30 * time.Second); !m.Report().Ready(); {
		if time.Now().After(end) {
			tb.Fatal("not ready")
		}
		<-time.After(time.Millisecond)
	}
	return m
}

// newLimit returns the limit handler with the page of a healthy monitor.
func newLimit() *limitHandler {
	h := &limitHandler{typ: []string{"text/plain; charset=utf-8"}, no: []string{"no-store"}}
	ok := []byte("ok\n")
	h.page.Store(&ok)
	return h
}

// BenchmarkHandlerOverLimit takes turns between the limit and ours, and compares the best turns of
// each: what else the machine does then falls on both.
func BenchmarkHandlerOverLimit(b *testing.B) {
	const turn = 2000
	limit := newLimit()
	for _, n := range []int{1, 10, 100, 1000} {
		m := startedMonitor(b, n)
		ours := health.Handler(m)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := &nullWriter{header: http.Header{}}
			r := bareRequest("/readyz")
			take := func(h http.Handler) time.Duration {
				begin := time.Now()
				for range turn {
					h.ServeHTTP(w, r)
				}
				return time.Since(begin)
			}
			best, bestLimit := time.Hour, time.Hour
			for b.Loop() {
				bestLimit = min(bestLimit, take(limit))
				best = min(best, take(ours))
			}
			b.ReportMetric(float64(best)/turn, "ns/probe")
			b.ReportMetric(float64(best)/float64(bestLimit), "x-limit")
			b.ReportMetric(0, "ns/op") // of a turn of each: says nothing
		})
	}
}

func BenchmarkHandler(b *testing.B) {
	limit := newLimit()
	b.Run("limit", func(b *testing.B) { benchmarkHandler(b, limit, bareRequest("/readyz")) })
	for _, n := range []int{1, 10, 100, 1000} {
		m := startedMonitor(b, n)
		plain := health.Handler(m)
		single := health.GroupHandler(m, health.GroupReady)
		open := health.Handler(m, health.WithDetails(func(*http.Request) bool { return true }))
		for _, c := range []struct {
			name string
			h    http.Handler
			r    *http.Request
		}{
			{"ready", plain, bareRequest("/readyz")},
			{"live", plain, bareRequest("/livez")},
			{"single", single, bareRequest("/")},
			{"kubelet", plain, kubeletRequest("/readyz")},
			{"details", open, bareRequest("/readyz")},
			{"verbose", open, bareRequest("/readyz?verbose")},
			{"one-check", plain, bareRequest("/readyz/check-0000")},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) { benchmarkHandler(b, c.h, c.r) })
		}
	}
}

// BenchmarkPublish is what a change costs: a page made anew. Draining, holds, and verdicts that
// change do it; results that confirm a verdict do not.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		m := startedMonitor(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Hold("benchmark")() // two publications
			}
		})
	}
}

// BenchmarkVerbosePage measures the first request for a detailed page after a change.
func BenchmarkVerbosePage(b *testing.B) {
	for _, n := range []int{10, 1000} {
		m := startedMonitor(b, n)
		h := health.Handler(m, health.WithDetails(func(*http.Request) bool { return true }))
		r := bareRequest("/readyz?verbose&exclude=check-0000") // with an exclusion it is never kept
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkHandler(b, h, r) })
	}
}

// BenchmarkIdleChecks states what 10,000 checks cost while nothing happens: goroutines and bytes
// for each of them.
func BenchmarkIdleChecks(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		b.StopTimer()
		heap := func() uint64 {
			runtime.GC()
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		before, goroutines := heap(), runtime.NumGoroutine()
		b.StartTimer()
		m := health.New(health.Config{Interval: time.Hour})
		probe := func(context.Context) error { return nil }
		for i := range n {
			if _, err := m.Register(health.Check{Name: fmt.Sprintf("check-%05d", i), Probe: probe}); err != nil {
				b.Fatal(err)
			}
		}
		if err := m.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		eventually(b, "ready", func() bool { return m.Report().Ready() })
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/n, "B/check")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		stop(b, m)
		b.StartTimer()
	}
}
