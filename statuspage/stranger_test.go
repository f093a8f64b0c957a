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

// Whatever a stranger asks for, it learns no name and no text, changes nothing, and each answer has
// its policy.
func FuzzStranger(f *testing.F) { // INV-15
	for _, s := range [][3]string{
		{"GET", "/", ""},
		{"GET", "/status.json", "x=1"},
		{"HEAD", "//", "%zz"},
		{"POST", "/../status.json", ""},
		{"GET", "/nowhere/\x00", ";"},
		{"GET", "/status.json/", "pool=secret"},
		{"GET", "", "//evil.example"},
		{"GET", "", "/a/.."},
		{"GET", "", "https://evil.example//"},
	} {
		f.Add(s[0], s[1], s[2], "text/html")
	}
	reg, pool := lifecycle.New(quiet()), &fakePool{}
	pool.holders = []poolkeeper.Holder{{Kind: "hidden-kind", Stack: "hidden-stack"}}
	reg.Add("hidden-pool", pool)
	page := statuspage.New(reg, statuspage.Config{Name: "shop"})
	f.Fuzz(func(t *testing.T, method, path, query, accept string) {
		if strings.Contains(path+query+method, "hidden") {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Method, r.URL.Path, r.URL.RawQuery = method, path, query
		r.RequestURI = query
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if body := w.Body.String(); strings.Contains(body, "hidden-") {
			t.Fatalf("%s %q: %s", method, path, body)
		}
		if w.Code == http.StatusOK && method != http.MethodGet && method != http.MethodHead {
			t.Fatalf("%q is answered", method)
		}
		if w.Code == http.StatusOK && (w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Security-Policy") == "") {
			t.Fatalf("%q: %v", path, w.Header())
		}
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "./") || strings.Contains(to[2:], "//")) {
			t.Fatalf("%q redirects to %q", query, to)
		}
	})
}
