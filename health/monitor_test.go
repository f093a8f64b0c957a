package health_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

// get asks a handler as an orchestrator would.
func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// script is a probe that says what it was last told to say.
type script struct {
	err  atomic.Pointer[error]
	runs atomic.Int64
}

func (s *script) set(err error) { s.err.Store(&err) }

func (s *script) probe(context.Context) error {
	s.runs.Add(1)
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func TestReadyFollowsThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		var broken script
		if _, err := m.Register(health.Check{Name: "db", Probe: broken.probe}); err != nil {
			t.Fatal(err)
		}
		h := health.Handler(m)
		if c := get(h, "/readyz").Code; c != 503 {
			t.Fatalf("before Start: %d", c)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if c := get(h, "/readyz").Code; c != 200 {
			t.Fatalf("healthy: %d", c)
		}
		broken.set(errors.New("broken"))
		time.Sleep(20 * time.Second)
		if c := get(h, "/readyz").Code; c != 503 {
			t.Fatalf("broken: %d", c)
		}
		broken.set(nil)
		time.Sleep(20 * time.Second)
		if c := get(h, "/readyz").Code; c != 200 {
			t.Fatalf("mended: %d", c)
		}
		m.SetDraining()
		if c := get(h, "/readyz").Code; c != 503 {
			t.Fatalf("draining: %d", c)
		}
		if err := m.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
