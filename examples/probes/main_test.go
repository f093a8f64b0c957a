package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryRouterServesTheSameProbes(t *testing.T) {
	m := health.New(health.Config{})
	if _, err := m.Register(health.Check{Name: "database", Probe: func(context.Context) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	changes := m.Watch(t.Context())
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Stop(context.WithoutCancel(t.Context())) }()
	for !m.Report().Ready() {
		<-changes
	}
	for name, mount := range routers {
		t.Run(name, func(t *testing.T) {
			h := mount(m)
			for path, want := range map[string]struct {
				code int
				body string
			}{
				"/livez":                {200, "ok"},
				"/startupz":             {200, "ok"},
				"/readyz":               {200, "ok"},
				"/readyz?verbose":       {200, "database"},
				"/readyz/database":      {200, "ok"},
				"/readyz/nothing-there": {404, ""},
				"/elsewhere":            {404, ""},
			} {
				rec := httptest.NewRecorder()
				req := httptest.NewRequest(http.MethodGet, path, nil)
				req.RemoteAddr = "127.0.0.1:1234"
				h.ServeHTTP(rec, req)
				if rec.Code != want.code || !strings.Contains(rec.Body.String(), want.body) {
					t.Errorf("GET %s = %d %q, want %d with %q", path, rec.Code, rec.Body, want.code, want.body)
				}
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodHead, "/readyz", nil))
			if rec.Code != http.StatusOK {
				t.Errorf("HEAD /readyz = %d", rec.Code)
			}
		})
	}
}

func TestDetailsAreForThisMachineOnly(t *testing.T) {
	for from, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "10.0.0.7:1": false, "": false} {
		if got := details(&http.Request{RemoteAddr: from}); got != want {
			t.Errorf("details for %q = %v, want %v", from, got, want)
		}
	}
}

func TestUnknownRouterIsRefused(t *testing.T) {
	if err := run(t.Context(), []string{"-router", "abacus"}); err == nil || !strings.Contains(err.Error(), "abacus") {
		t.Fatalf("run = %v", err)
	}
}
