package statuspage_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// fakePool is a component with all that a pool tells.
type fakePool struct {
	mu       sync.Mutex // guards the following
	stats    poolkeeper.Stats
	asked    int
	check    error
	holders  []poolkeeper.Holder
	settings []slog.Attr
	expiries []poolkeeper.Expiry
	onStats  func()
	onEvent  func(poolkeeper.Event)
}

func (p *fakePool) Start(context.Context) error { return nil }
func (p *fakePool) Stop(context.Context) error  { return nil }

func (p *fakePool) Check(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.check
}

func (p *fakePool) Stats() poolkeeper.Stats {
	p.mu.Lock()
	p.asked++
	s, before := p.stats, p.onStats
	p.mu.Unlock()
	if before != nil {
		before()
	}
	return s
}

func (p *fakePool) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	p.onEvent = fn
	return func() {}
}

func (p *fakePool) Holders() []poolkeeper.Holder  { return p.holders }
func (p *fakePool) Settings() []slog.Attr         { return p.settings }
func (p *fakePool) Expiries() []poolkeeper.Expiry { return p.expiries }

func (p *fakePool) set(change func(*poolkeeper.Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
}

func (p *fakePool) timesAsked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// waits is a histogram of n acquisitions of d each.
func waits(n uint64, d time.Duration) poolkeeper.Histogram {
	h := poolkeeper.Histogram{Count: n, Sum: float64(n) * d.Seconds()}
	for _, bound := range []float64{0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} {
		b := poolkeeper.Bucket{UpperBound: bound}
		if d.Seconds() <= bound {
			b.Count = n
		}
		h.Buckets = append(h.Buckets, b)
	}
	return h
}

func quiet() lifecycle.Config { return lifecycle.Config{Logger: slog.New(slog.DiscardHandler)} }

func everybody(*http.Request) bool { return true }

func open() statuspage.Config { return statuspage.Config{Name: "orders", Allow: everybody} }

// get asks h for a path.
func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, h, http.MethodGet, path)
}

func do(t *testing.T, h http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w
}

// document is what status.json says.
func document(t *testing.T, h http.Handler) statuspage.Document {
	t.Helper()
	w := get(t, h, "/status.json")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("status.json: %d, %v", w.Code, w.Header())
	}
	var d statuspage.Document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return d
}

// start starts reg, and shuts it down at the end of the test.
func start(t *testing.T, reg *lifecycle.Registry) {
	t.Helper()
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, reg) })
}

func shutdown(t *testing.T, reg *lifecycle.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := reg.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// attrs are settings of keys and values.
func attrs(pairs ...string) []slog.Attr {
	var out []slog.Attr
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, slog.String(pairs[i], pairs[i+1]))
	}
	return out
}

// textError is an error of that text.
type textError string

func (e textError) Error() string { return string(e) }

func failing(text string) func(context.Context) error {
	return func(context.Context) error { return textError(text) }
}
