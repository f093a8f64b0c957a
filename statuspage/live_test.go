package statuspage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// fast samples as often as can be.
func fast() statuspage.Config {
	return statuspage.Config{Name: "orders", Allow: everybody, Interval: 100 * time.Millisecond, MaxViewers: 2}
}

// stream is an open stream of updates.
type stream struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

func listen(t *testing.T, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
		client.CloseIdleConnections()
	})
	return &stream{t: t, resp: resp, lines: bufio.NewReader(resp.Body), cancel: cancel}
}

// next returns the next event, and false at the end of the stream.
func (s *stream) next() (name, data string, ok bool) {
	s.t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", "", false
		}
		line = strings.TrimSuffix(line, "\n")
		if key, value, found := strings.Cut(line, ": "); found {
			switch key {
			case "event":
				name = value
			case "data":
				data = value
			}
		}
		if line == "" && name != "" {
			return name, data, true
		}
	}
}

// part waits for an update of the part with that id.
func (s *stream) part(id string) string {
	s.t.Helper()
	for {
		name, data, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended before %s was updated", id)
		}
		var p struct{ ID, HTML string }
		if name == "part" && json.Unmarshal([]byte(data), &p) == nil && p.ID == id {
			return p.HTML
		}
	}
}

func (s *stream) ended() {
	s.t.Helper()
	for {
		if _, _, ok := s.next(); !ok {
			return
		}
	}
}

func TestUpdatesBeginWithEverythingAndGoOnWithWhatChanged(t *testing.T) {
	reg, pool := lifecycle.New(quiet()), &fakePool{}
	page := statuspage.New(reg, fast())
	reg.Add("pool", pool)
	reg.Add("page", page)
	start(t, reg)
	srv := httptest.NewServer(page)
	t.Cleanup(srv.Close)
	s := listen(t, srv.URL)
	if ct := s.resp.Header.Get("Content-Type"); s.resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%d, %s", s.resp.StatusCode, ct)
	}
	if name, shape, _ := s.next(); name != "hello" || !strings.Contains(get(t, page, "/").Body.String(), `data-shape="`+shape+`"`) {
		t.Errorf("it begins with %s %q, which is not the page's", name, shape)
	}
	for _, id := range []string{"overall", "attention", "pools", "pool-0", "graph", "checks", "holders", "events", "components", "reports"} {
		if html := s.part(id); !strings.Contains(html, `id="`+id+`"`) {
			t.Errorf("part %s is %s", id, html)
		}
	}
	pool.set(func(st *poolkeeper.Stats) { st.InUse, st.Max = 7, 9 })
	for !strings.Contains(s.part("pool-0"), "<strong>7</strong> of 9 in use") {
	}
	s.cancel()
}

func TestViewersAreBoundedAndEndWithStop(t *testing.T) {
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, fast())
	srv := httptest.NewServer(page)
	t.Cleanup(srv.Close)
	if s := listen(t, srv.URL); s.resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("before Start: %d", s.resp.StatusCode)
	}
	if err := page.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, two := listen(t, srv.URL), listen(t, srv.URL)
	one.part("overall")
	two.part("overall")
	third := listen(t, srv.URL)
	text, _ := io.ReadAll(third.resp.Body)
	if third.resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "MaxViewers") {
		t.Errorf("the third of two: %d: %s", third.resp.StatusCode, text)
	}
	one.cancel()
	testkit.Eventually(t, "there is place again", func() bool {
		again := listen(t, srv.URL)
		defer again.cancel()
		return again.resp.StatusCode == http.StatusOK
	})
	if err := page.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	two.ended()
}

func TestDrainOfTheServerEndsUpdates(t *testing.T) {
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, fast())
	server := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: page, ReadHeaderTimeout: time.Minute})
	reg.Add("page", page, lifecycle.WithOps())
	reg.Add("server", server, lifecycle.WithOps(), lifecycle.WithDependencies("page"))
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := listen(t, "http://"+server.Addr().String())
	s.part("overall")
	shutdown(t, reg) // it fails if the server has to cut the stream off
	s.ended()
	testkit.Eventually(t, "the shutdown has a report without an error", func() bool {
		r := document(t, page).Shutdown
		return r != nil && r.Error == "" && len(r.Steps) == 2
	})
}

// deaf is a ResponseWriter whose reader has stopped to read.
type deaf struct {
	http.ResponseWriter

	deadlines chan time.Time
}

func (d *deaf) SetWriteDeadline(at time.Time) error {
	select {
	case d.deadlines <- at:
	default:
	}
	return nil
}

func (d *deaf) Write([]byte) (int, error) { return 0, context.DeadlineExceeded }
func (d *deaf) Flush()                    {}

func TestAViewerThatDoesNotReadIsDropped(t *testing.T) {
	page := statuspage.New(lifecycle.New(quiet()), fast())
	if err := page.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &deaf{httptest.NewRecorder(), make(chan time.Time, 1)}
	page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/live", nil)) // it returns
	if at := <-w.deadlines; time.Until(at) <= 0 {
		t.Errorf("deadline %v", at)
	}
	if err := page.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// The part is now as it was when the last viewer left; in between it was different, and that is what
// the new viewer has seen.
func TestAViewerThatJoinsLateMissesNoChange(t *testing.T) {
	if got := statuspage.LateViewer("zero", "zero"); !strings.Contains(got, `"html":"zero"`) {
		t.Errorf("it is sent %q", got)
	}
}

func TestASlowViewerGetsTheLastStateOfEverything(t *testing.T) {
	got := statuspage.SlowViewer("one", "two", "three")
	if strings.Contains(got, "two") || !strings.Contains(got, "three") || !strings.Contains(got, "another part") {
		t.Errorf("it is sent %q", got)
	}
}

func TestUpdatesEndWhenAllowDenies(t *testing.T) {
	var denied atomic.Bool
	cfg := fast()
	cfg.Allow = func(*http.Request) bool { return !denied.Load() }
	page := statuspage.New(lifecycle.New(quiet()), cfg)
	if err := page.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(page)
	t.Cleanup(srv.Close)
	s := listen(t, srv.URL)
	s.part("overall")
	denied.Store(true)
	s.ended()
	if err := page.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
