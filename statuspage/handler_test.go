package statuspage_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// INV-15.
func TestShowsOverallStatesOnlyUntilAllowAgrees(t *testing.T) {
	for name, allow := range map[string]func(*http.Request) bool{
		"nil":   nil,
		"false": func(*http.Request) bool { return false },
		"panic": func(*http.Request) bool { panic("no") },
	} {
		reg := lifecycle.New(quiet())
		reg.Add("zebra-pool", &fakePool{})
		page := statuspage.New(reg, statuspage.Config{Name: "zebra-service", Allow: allow})
		reg.Add("zebra-page", page)
		start(t, reg)
		for _, path := range []string{"/", "/status.json", "/live", "/nothing"} {
			body := get(t, page, path).Body.String()
			if strings.Contains(body, "zebra") {
				t.Errorf("Allow %s: %s shows a name:\n%s", name, path, body)
			}
		}
		d := document(t, page)
		if d.Details || d.Overall.Phase != "up" || d.Overall.Live != "pass" || len(d.Components) != 0 {
			t.Errorf("Allow %s: %+v", name, d)
		}
		if !strings.Contains(get(t, page, "/").Body.String(), "<h1") {
			t.Errorf("Allow %s: the page does not say the overall state", name)
		}
		if code := get(t, page, "/live").Code; code != http.StatusForbidden {
			t.Errorf("Allow %s: updates: %d", name, code)
		}
	}
}

// INV-15.
func TestNothingCanBeChanged(t *testing.T) {
	page := statuspage.New(lifecycle.New(quiet()), open())
	for _, h := range []http.Handler{page, statuspage.Profiles(everybody)} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
			w := do(t, h, method, "/")
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
			}
		}
	}
	for _, path := range []string{"/", "/status.json"} {
		if w := do(t, page, http.MethodHead, path); w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d with %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

func TestEveryAnswerHasItsHeaders(t *testing.T) {
	for name, page := range map[string]http.Handler{
		"open":     statuspage.New(lifecycle.New(quiet()), open()),
		"closed":   statuspage.New(lifecycle.New(quiet()), statuspage.Config{}),
		"profiles": statuspage.Profiles(everybody),
		"denied":   statuspage.Profiles(nil),
	} {
		for _, path := range []string{"/", "/status.json", "/live", "/nothing", "/goroutine"} {
			h := get(t, page, path).Header()
			for key, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
				"X-Frame-Options": "DENY",
			} {
				if h.Get(key) != want {
					t.Errorf("%s %s: %s: %q, want %q", name, path, key, h.Get(key), want)
				}
			}
			csp := h.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("%s %s: policy %q lacks %q", name, path, csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") {
				t.Errorf("%s %s: policy %q", name, path, csp)
			}
		}
	}
}

func TestPageWorksBelowAnyPrefix(t *testing.T) {
	page := statuspage.New(lifecycle.New(quiet()), open())
	mux := http.NewServeMux()
	mux.Handle("/ops/a%20b/", http.StripPrefix("/ops/a b", page))
	mux.Handle("/bare/", http.StripPrefix("/bare", page))
	mux.Handle("/bare", http.StripPrefix("/bare", page))
	if w := get(t, mux, "/bare/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `href="status.json"`) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if w := get(t, mux, "/bare/status.json"); w.Code != http.StatusOK {
		t.Errorf("status.json: %d", w.Code)
	}
	if w := get(t, mux, "/bare"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "./bare/" {
		t.Errorf("without a slash: %d to %q", w.Code, w.Header().Get("Location"))
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "//evil.example/a%20b?x", nil)
	w := httptest.NewRecorder()
	http.StripPrefix("//evil.example/a b", page).ServeHTTP(w, r)
	if l := w.Header().Get("Location"); l != "./a%20b/" {
		t.Errorf("Location %q: a redirect stays on this host", l)
	}
}

// INV-12, for what components and errors of the service's own say.
func TestSecretsInTextsAreTakenOut(t *testing.T) {
	const secret = "hunter2"
	reg := lifecycle.New(quiet())
	pool := &fakePool{settings: attrs(
		"url", "postgres://u:hunter2@db/x", "password", secret, "dsn", "host=db password=hunter2 dbname=x", "max_open", "20",
	)}
	pool.stats.LastDialError = textError("dial redis://:hunter2@cache:6379: refused")
	pool.stats.Fleet.Warnings = []string{"postgres://u:hunter2@db grants 10"}
	pool.check = textError("check u:hunter2@tcp(db:3306)/x: refused")
	page := statuspage.New(reg, open())
	reg.Add("pool", pool)
	reg.Add("failing", lifecycle.Hooks{OnStart: failing("open postgres://u:hunter2@db: refused")}, lifecycle.WithDependencies("pool"))
	pool.onEvent(poolkeeper.Event{Pool: "pool", Kind: poolkeeper.EventDown, Text: "down", Err: textError("redis://:hunter2@h: EOF")})
	if err := reg.Start(t.Context()); err == nil {
		t.Fatal("Start succeeded")
	}
	shutdown(t, reg)
	for _, path := range []string{"/", "/status.json"} {
		body := get(t, page, path).Body.String()
		if at := strings.Index(body, secret); at >= 0 {
			t.Errorf("%s shows the secret: … %s …", path, body[max(at-80, 0):at+20])
		}
		if !strings.Contains(body, "max_open") || !strings.Contains(body, "***@db") {
			t.Errorf("%s does not show what it may", path)
		}
	}
}
