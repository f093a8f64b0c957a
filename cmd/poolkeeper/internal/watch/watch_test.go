package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/watch"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// shop is a service whose database is down.
func shop() statuspage.Document {
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	return statuspage.Document{
		Version: statuspage.Version, At: at, Details: true,
		Overall: statuspage.Overall{
			Phase: "up", Since: ago(50 * time.Hour), Ready: "fail", Live: "pass",
			Reason: "orders: connection refused", Advice: "nothing listens at that address",
		},
		Process: statuspage.Process{Name: "shop", Version: "v1.4.0", Host: "pod-7", PID: 42, Started: ago(50 * time.Hour)},
		Attention: []statuspage.Notice{
			{Severity: statuspage.SeverityError, Component: "orders", Text: "the server is down", Advice: "nothing listens at that address"},
			{Severity: statuspage.SeverityWarning, Component: "cache", Text: "the leaf certificate expires in 9 days"},
		},
		Pools: []statuspage.Pool{
			{
				Name:        "orders",
				PoolFigures: statuspage.PoolFigures{Max: 20, Open: 3, InUse: 3, Waiting: 2, OldestHold: 95, DownSince: ago(42 * time.Second)},
				Recent:      statuspage.Recent{AcquireP50: 0.0012, AcquireP99: 5},
				Members:     []statuspage.Member{{Name: "db-1", Primary: true, PoolFigures: statuspage.PoolFigures{Max: 10, Open: 3, InUse: 3}}},
			},
			{Name: "cache", PoolFigures: statuspage.PoolFigures{Max: 40, Open: 4, Idle: 4}, Recent: statuspage.Recent{AcquireP50: 0.00002, AcquireP99: 0.09}},
		},
		Servers: []statuspage.Server{{Name: "api", InFlight: 3, Streams: 1, Connections: 12, Requests: 4711, Rate: 27.5}},
		Checks: []statuspage.Check{
			{Name: "cache", Status: "pass", Since: ago(50 * time.Hour)},
			{Name: "orders", Status: "fail", Since: ago(40 * time.Second), Error: "connection refused", Advice: "nothing listens at that address"},
		},
		Heartbeats: []statuspage.Heartbeat{{Name: "consumer", Status: "pass", LastBeat: ago(3 * time.Second)}},
		Components: []statuspage.Component{
			{Name: "orders", State: "up", Since: ago(50 * time.Hour)},
			{Name: "api", State: "up", Since: ago(50 * time.Hour), DependsOn: []string{"orders", "cache"}},
			{Name: "mailer", State: "dead", Since: ago(10 * time.Minute), Error: "panic: no such template"},
		},
		Holders: []statuspage.HolderGroup{{Pool: "orders", Kind: "tx", Count: 3, Oldest: ago(95 * time.Second), At: "api.(*Handler).List (list.go:88)"}},
		Events: []statuspage.Event{
			{Time: ago(42 * time.Second), Level: "WARN", Component: "orders", Kind: "down", Text: "the server is down", Error: "connection refused"},
			{Time: ago(10 * time.Minute), Level: "ERROR", Component: "mailer", Kind: "Died", Text: "\x1b]0;owned\x07mailer died"},
		},
	}
}

// serving is a service that serves what document returns, or 503 for an empty one.
func serving(t *testing.T, document func() statuspage.Document) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := document()
		switch {
		case r.URL.Path != "/status/status.json":
			http.NotFound(w, r)
		case d.Version == 0:
			http.Error(w, "away", http.StatusServiceUnavailable)
		default:
			_ = json.NewEncoder(w).Encode(d)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func newWatch(t *testing.T, url string) *watch.Watch {
	t.Helper()
	w, err := watch.New(url, watch.Options{Interval: 10 * time.Millisecond, Timeout: 5 * time.Second, Token: "sesame"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestSnapshotShowsWhatToLookAt(t *testing.T) {
	for name, styles := range map[string]term.Styles{"shop.txt": {}, "shop-colour.txt": term.Forced()} {
		var out bytes.Buffer
		ready, err := newWatch(t, serving(t, shop).URL+"/status/").Snapshot(t.Context(), &out, styles)
		if err != nil || ready {
			t.Errorf("ready %v: %v", ready, err)
		}
		if strings.Contains(out.String(), "\x1b]") {
			t.Error("what the service wrote steers the terminal")
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err = os.WriteFile(file, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s is not what came out (go test -update, if that is meant):\n%s\nwant:\n%s", file, out.String(), want)
		}
	}
}

// The page of a real registry can be read, and hides what its Allow does not grant.
func TestSnapshotOfARealPage(t *testing.T) {
	for name, allow := range map[string]bool{"granted": true, "hidden": false} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
			page := statuspage.New(reg, statuspage.Config{Name: "shop", Allow: func(*http.Request) bool { return allow }})
			reg.Add("api", lifecycle.Hooks{})
			reg.Add("status", page, lifecycle.WithOps())
			if err := reg.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = reg.Shutdown(context.WithoutCancel(t.Context())) }()
			srv := httptest.NewServer(http.StripPrefix("/status", page))
			defer srv.Close()
			var out bytes.Buffer
			ready, err := newWatch(t, srv.URL+"/status").Snapshot(t.Context(), &out, term.Styles{})
			if err != nil || !ready || !strings.Contains(out.String(), "up for ") {
				t.Errorf("%v, %v:\n%s", ready, err, out.String())
			}
			if strings.Contains(out.String(), "COMPONENTS") != allow || strings.Contains(out.String(), "no details") == allow {
				t.Errorf("allowed %v:\n%s", allow, out.String())
			}
		})
	}
}

func TestSnapshotSaysWhyThereIsNone(t *testing.T) {
	future := shop()
	future.Version = 99
	text := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer text.Close()
	for name, tt := range map[string]struct{ url, want string }{
		"nothing listens":       {"http://u:sesame@" + testkit.FreeAddr(t) + "/status", "connection refused"},
		"another path":          {serving(t, shop).URL + "/elsewhere", "404 Not Found; is this the URL of its status page?"},
		"a page of another age": {serving(t, func() statuspage.Document { return future }).URL + "/status", "version 99"},
		"no JSON":               {text.URL, "not that of a status page"},
	} {
		var out bytes.Buffer
		_, err := newWatch(t, tt.url).Snapshot(t.Context(), &out, term.Styles{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sesame") || out.Len() > 0 {
			t.Errorf("%s: %v; printed %q", name, err, out.String())
		}
	}
}

func TestNewRefusesWhatIsNoPage(t *testing.T) {
	good := watch.Options{Interval: time.Second, Timeout: time.Second}
	for url, o := range map[string]watch.Options{
		"":                          good,
		"localhost:8081":            good,
		"ftp://u:sesame@localhost/": good,
		"http://u:sesame@%zz/":      good,
		"http://localhost/":         {Interval: 0, Timeout: time.Second},
		"https://localhost/":        {Interval: time.Second, Timeout: time.Second, CA: "/nowhere/ca"},
	} {
		if _, err := watch.New(url, o); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// net/http would send the token along to another port of the same host.
func TestTokenDoesNotFollowARedirect(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server was asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL+"/?sesame", http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	w, err := watch.New(srv.URL, watch.Options{Interval: time.Second, Timeout: 5 * time.Second, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, err = w.Snapshot(t.Context(), new(bytes.Buffer), term.Styles{})
	if err == nil || !strings.Contains(err.Error(), "redirects to "+thief.URL) || strings.Contains(err.Error(), "sesame") {
		t.Errorf("it says %v", err)
	}
}

// lockedBuffer is a terminal that can be read while it is written to.
type lockedBuffer struct {
	mu sync.Mutex // guards the following
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// last is the screen drawn last.
func (l *lockedBuffer) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	return text[strings.LastIndex(text, term.Home)+1:]
}

// The service goes away and comes back, and Ctrl-C ends the watch with the last picture.
func TestFollowOutlivesTheService(t *testing.T) {
	var mu sync.Mutex
	now := shop()
	set := func(d statuspage.Document) {
		mu.Lock()
		defer mu.Unlock()
		now = d
	}
	srv := serving(t, func() statuspage.Document {
		mu.Lock()
		defer mu.Unlock()
		return now
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var screen lockedBuffer
	w := newWatch(t, srv.URL+"/status/status.json")
	type outcome struct {
		ready bool
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // ends with ctx, and is waited for below
		ready, err := w.Follow(ctx, &screen, term.Styles{})
		done <- outcome{ready, err}
	}()
	shows := func(what, has, not string) {
		t.Helper()
		testkit.Eventually(t, what, func() bool {
			text := screen.last()
			return strings.HasSuffix(text, term.ClearBelow) && strings.Contains(text, has) && !strings.Contains(text, not)
		})
	}
	shows("the service is shown", "ready fail", "has not answered")
	set(statuspage.Document{})
	shows("the service is away, and its last answer still there", "has not answered for", "\x00")
	if text := screen.last(); !strings.Contains(text, "503 Service Unavailable") || !strings.Contains(text, "ready fail") {
		t.Errorf("while the service is away:\n%s", text)
	}
	well := shop()
	well.Overall.Ready, well.Overall.Reason = "pass", ""
	set(well)
	shows("the service is back", "ready pass", "has not answered")
	cancel()
	end := <-done
	if end.err != nil || !end.ready {
		t.Errorf("%+v", end)
	}
	screen.mu.Lock()
	defer screen.mu.Unlock()
	text := screen.b.String()
	enter, leave := strings.Index(text, "\x1b[?1049h"), strings.LastIndex(text, "\x1b[?1049l")
	if enter != 0 || leave < 0 || !strings.Contains(text[leave:], "ready pass") {
		t.Error("the terminal is not left as it was, with the last picture")
	}
}

func TestFollowOfAServiceThatNeverWasSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var screen lockedBuffer
	w := newWatch(t, "http://"+testkit.FreeAddr(t)+"/status")
	done := make(chan error, 1)
	go func() { // ends with ctx, and is waited for below
		_, err := w.Follow(ctx, &screen, term.Styles{})
		done <- err
	}()
	testkit.Eventually(t, "it says that the service is away", func() bool { return strings.Contains(screen.last(), "connection refused") })
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
}

func TestSnapshotEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newWatch(t, serving(t, shop).URL+"/status").Snapshot(ctx, new(bytes.Buffer), term.Styles{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
