package statuspage_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// profileServer serves profiles where net/http/pprof does.
func profileServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/debug/pprof/", statuspage.Profiles(everybody))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func TestGoToolPprofReadsTheProfiles(t *testing.T) {
	testkit.Slow(t)
	srv := profileServer(t)
	for path, want := range map[string]string{
		"/debug/pprof/goroutine":         "Type: goroutine",
		"/debug/pprof/heap":              "Type: inuse_space",
		"/debug/pprof/allocs":            "Type: alloc_space",
		"/debug/pprof/mutex":             "Type: delay",
		"/debug/pprof/profile?seconds=1": "Type: cpu",
	} {
		cmd := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", srv.URL+path)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

func TestGoToolTraceReadsTheTrace(t *testing.T) {
	testkit.Slow(t)
	srv := profileServer(t)
	resp := fetch(t, srv.URL+"/debug/pprof/trace?seconds=0.2")
	file := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(file, resp, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "trace", "-pprof=sched", file).Output()
	if err != nil || len(out) == 0 {
		t.Errorf("%v: %d bytes", err, len(out))
	}
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v: %s", url, resp.StatusCode, err, body)
	}
	return body
}

func TestProfilesAsText(t *testing.T) {
	h := statuspage.Profiles(everybody)
	for path, want := range map[string]string{
		"/debug/pprof/":                  `<a href="goroutine?debug=1">`,
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total",
		"/debug/pprof/goroutine?debug=2": "TestProfilesAsText",
		"/debug/pprof/heap?debug=1&gc=1": "heap profile:",
		"/debug/pprof/threadcreate":      "",
		"/debug/pprof/block?debug=1":     "--- contention:",
	} {
		if w := get(t, h, path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d: %.200s", path, w.Code, w.Body)
		}
	}
}

func TestProfilesRefuseWhatTheyDoNotHave(t *testing.T) {
	h := statuspage.Profiles(everybody)
	for path, want := range map[string]int{
		"/debug/pprof/cmdline":             http.StatusNotFound,
		"/debug/pprof/symbol":              http.StatusNotFound,
		"/debug/pprof/heap?seconds=5":      http.StatusBadRequest,
		"/debug/pprof/profile?seconds=-1":  http.StatusBadRequest,
		"/debug/pprof/profile?seconds=NaN": http.StatusBadRequest,
		"/debug/pprof/trace?seconds=9999":  http.StatusBadRequest,
	} {
		if w := get(t, h, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if w := get(t, statuspage.Profiles(nil), "/debug/pprof/heap"); w.Code != http.StatusForbidden {
		t.Errorf("denied: %d", w.Code)
	}
	if w := do(t, h, http.MethodHead, "/debug/pprof/profile"); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// An importer of the package does not find profiles on http.DefaultServeMux.
func TestNothingIsRegisteredOnTheDefaultServeMux(t *testing.T) {
	if w := get(t, http.DefaultServeMux, "/debug/pprof/"); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil || strings.Contains(string(out), "net/http/pprof") {
		t.Errorf("%v: net/http/pprof, which registers itself, is imported", err)
	}
}

func TestASecondCPUProfileIsRefused(t *testing.T) {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Skip("one is under way: ", err)
	}
	defer pprof.StopCPUProfile()
	w := get(t, statuspage.Profiles(everybody), "/debug/pprof/profile?seconds=300")
	if w.Code != http.StatusConflict || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
}

func TestADrainEndsAProfileEarly(t *testing.T) {
	reg := lifecycle.New(quiet())
	server := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: statuspage.Profiles(everybody), ReadHeaderTimeout: time.Minute})
	reg.Add("server", server)
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := make(chan int, 1)
	go func() {
		n := 0
		defer func() { size <- n }()
		n = len(fetch(t, "http://"+server.Addr().String()+"/profile?seconds=300"))
	}()
	testkit.Eventually(t, "the profile is under way", func() bool { return server.Stats().Streams == 1 })
	shutdown(t, reg)
	if n := <-size; n == 0 {
		t.Error("the profile is empty")
	}
	http.DefaultClient.CloseIdleConnections()
}
