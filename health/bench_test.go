package health_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// limitHandler is the least a probe can cost: load a pointer, set two headers, write prepared bytes.
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

func BenchmarkHandler(b *testing.B) {
	limit := &limitHandler{typ: []string{"text/plain; charset=utf-8"}, no: []string{"no-store"}}
	ok := []byte("ok\n")
	limit.page.Store(&ok)
	b.Run("limit", func(b *testing.B) { benchmarkHandler(b, limit, bareRequest("/readyz")) })
	for _, n := range []int{1, 10, 100, 1000} {
		m := startedMonitor(b, n)
		plain := health.Handler(m)
		single := health.ReadyHandler(m)
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
