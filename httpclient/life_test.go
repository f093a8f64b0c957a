package httpclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestDrainRefusesNewRequestsAndWaitsForBodies(t *testing.T) { // INV-8
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-release
		_, _ = io.WriteString(w, "last")
	})
	c := started(t, httpclient.Config{Name: "billing", BaseURL: srv.URL})
	var body string
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { body, err = get(t.Context(), c, srv.URL) })
	<-begun
	if drain := c.Drain(testkit.Within(t, short)); drain == nil || !strings.Contains(drain.Error(), `drain "billing": 1 request still in flight`) {
		t.Errorf("Drain: %v", drain)
	}
	if _, refused := get(t.Context(), c, srv.URL); !errors.Is(refused, poolkeeper.ErrDraining) {
		t.Errorf("a new request: %v", refused)
	}
	close(release)
	wg.Wait()
	if err != nil || body != "first last" {
		t.Errorf("%q, %v", body, err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Open != 0 || s.Evicted[poolkeeper.EvictedClosed] == 0 {
		t.Errorf("%d open, closed %v", s.Open, s.Evicted)
	}
	if _, err := get(t.Context(), c, srv.URL); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("after Stop: %v", err)
	}
}

func TestStopAndAbortAtAnyTime(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*httpclient.Client) error{
		"Stop": func(c *httpclient.Client) error { return c.Stop(t.Context()) }, "Abort": (*httpclient.Client).Abort,
	} {
		c, err := httpclient.New(httpclient.Config{Logger: testkit.Silent()})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(end(c), end(c)); err != nil {
			t.Errorf("%s, twice, without Start: %v", name, err)
		}
		if err := c.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Start after %s: %v", name, err)
		}
	}
	hang := make(chan struct{})
	srv := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	c := started(t, httpclient.Config{BaseURL: srv.URL})
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { _, err = get(t.Context(), c, srv.URL) })
	testkit.Eventually(t, "a request is in flight", func() bool { return c.Stats().InUse == 1 })
	if abort := c.Abort(); abort == nil || !strings.Contains(abort.Error(), "cut off 1 connection") {
		t.Errorf("Abort: %v", abort)
	}
	wg.Wait()
	if !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("the request: %v", err)
	}
}

func TestRequestsFailFastWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	px := testkit.NewProxy(t, srv.Listener.Addr().String())
	var log testkit.Log
	c := started(t, httpclient.Config{Name: "billing", BaseURL: "http://" + px.Addr(), FailFastAfter: short, Logger: log.Logger()})
	px.Refuse(t, true)
	c.Reset() // connections that are open do not know
	var down *poolkeeper.DownError
	testkit.Eventually(t, "requests fail at once", func() bool {
		_, err := get(t.Context(), c, "http://"+px.Addr())
		return errors.As(err, &down)
	})
	dials := c.Stats().Dials + c.Stats().DialErrors
	began := time.Now()
	for range 100 {
		if _, err := get(t.Context(), c, "http://"+px.Addr()); !errors.Is(err, poolkeeper.ErrDown) {
			t.Fatal(err)
		}
	}
	more, trials := c.Stats().Dials+c.Stats().DialErrors-dials, uint64(10*time.Since(began).Seconds()+2)
	if down.Pool != "billing" || down.Advice == "" || more > trials || c.Stats().DownSince.IsZero() || c.Stats().Refused < 100 {
		t.Errorf("%v; %d dials for 100 requests, at most %d are trials", down, more, trials)
	}
	px.Refuse(t, false)
	testkit.Eventually(t, "the server is back", func() bool { _, err := get(t.Context(), c, "http://"+px.Addr()); return err == nil })
	testkit.Eventually(t, "both are logged", func() bool {
		return strings.Contains(log.String(), "kind=down") && strings.Contains(log.String(), "kind=up")
	})
}

func TestCheckAsksForThePath(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	status := http.StatusOK
	say := func(s int) { mu.Lock(); defer mu.Unlock(); status = s }
	var paths []string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path+" "+r.Header.Get("Authorization"))
		w.WriteHeader(status)
	})
	c := started(t, httpclient.Config{
		Name: "billing", BaseURL: srv.URL + "/api", CheckPath: "/healthz", MaxOpen: 1,
		Authorize: func(r *http.Request) error { r.Header.Set("Authorization", "Bearer t"); return nil },
	})
	if len(paths) != 1 || paths[0] != "/api/healthz Bearer t" {
		t.Errorf("Start asked for %q", paths)
	}
	for s, healthy := range map[int]bool{200: true, 302: true, 400: true, 401: false, 403: false, 404: false, 429: false, 500: false, 503: false} {
		say(s)
		err := c.Check(t.Context())
		e, ok := errors.AsType[*httpclient.StatusError](err)
		if healthy != (err == nil) || !healthy && (!ok || e.Status != s) {
			t.Errorf("%d: %v", s, err)
		}
	}
	if _, err := get(t.Context(), c, srv.URL); err != nil { // an answer, however bad, is no outage
		t.Error(err)
	}
	open := started(t, httpclient.Config{BaseURL: srv.URL})
	if err := open.Check(t.Context()); err != nil {
		t.Errorf("without CheckPath: %v", err)
	}
	srv.Close()
	if err := open.Check(t.Context()); err == nil {
		t.Error("without CheckPath, without the server: it passes")
	}
	if err := started(t, httpclient.Config{}).Check(t.Context()); err != nil {
		t.Errorf("without BaseURL: %v", err)
	}
}

func TestStartFollowsThePolicy(t *testing.T) {
	t.Parallel()
	nowhere := "http://" + testkit.FreeAddr(t)
	fast, err := httpclient.New(httpclient.Config{Name: "billing", BaseURL: nowhere, Logger: testkit.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fast.Abort() }()
	if err := fast.Start(t.Context()); err == nil || !strings.Contains(err.Error(), `start "billing"`) {
		t.Errorf("fail-fast: %v", err)
	}
	degraded := started(t, httpclient.Config{BaseURL: nowhere, Start: poolkeeper.StartDegraded})
	testkit.Eventually(t, "it is known to be down", func() bool {
		_, err := get(t.Context(), degraded, nowhere)
		return errors.Is(err, poolkeeper.ErrDown)
	})
}

func TestRequestsStayOnTheirServer(t *testing.T) {
	t.Parallel()
	other := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the other server was asked") })
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	c := started(t, httpclient.Config{Name: "billing", BaseURL: srv.URL})
	for _, url := range []string{other.URL, srv.URL, strings.Replace(srv.URL, "http:", "https:", 1)} {
		_, err := get(t.Context(), c, url)
		if e, ok := errors.AsType[*httpclient.HostError](err); !ok || e.Client != "billing" || e.Allowed != srv.URL {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Without BaseURL a server may redirect anywhere. The token is for the server that the caller asked.
func TestRedirectToAnotherServerIsNotAuthorized(t *testing.T) {
	t.Parallel()
	var first, other *httptest.Server
	say := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "token "+r.Header.Get("X-Token"))
	}
	other = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			http.Redirect(w, r, first.URL+"/say", http.StatusFound)
			return
		}
		say(w, r)
	})
	first = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/within":
			http.Redirect(w, r, "/say", http.StatusFound)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/there":
			http.Redirect(w, r, other.URL+"/back", http.StatusFound)
		default:
			say(w, r)
		}
	})
	c := started(t, httpclient.Config{Authorize: func(r *http.Request) error {
		r.Header.Set("X-Token", "t")
		return nil
	}})
	for path, want := range map[string]string{"/say": "token t", "/within": "token t", "/away": "token ", "/there": "token "} {
		if got, err := get(t.Context(), c, first.URL+path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestHooksOfTheServiceAreCalled(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("Authorization")) })
	var wrapped int
	errToken := errors.New("no token")
	var fail func() error
	c := started(t, httpclient.Config{
		Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer t")
			if fail != nil {
				return fail()
			}
			return nil
		},
		Wrap: func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) { wrapped++; return next.RoundTrip(r) })
		},
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	resp, err := c.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(b) != "Bearer t" || wrapped != 1 || req.Header.Get("Authorization") != "" {
		t.Errorf("the server saw %q; wrapped %d times; the caller's request has %v", b, wrapped, req.Header)
	}
	fail = func() error { return errToken }
	if _, err := get(t.Context(), c, srv.URL); !errors.Is(err, errToken) {
		t.Errorf("an error of Authorize: %v", err)
	}
	fail = func() error { panic("in Authorize") }
	if _, err := get(t.Context(), c, srv.URL); err == nil || !strings.Contains(err.Error(), "in Authorize") {
		t.Errorf("a panic of Authorize: %v", err)
	}
	if s := c.Stats(); len(c.Holders()) != 0 || s.Waiting != 0 {
		t.Errorf("in flight: %v, waiting: %d", c.Holders(), s.Waiting)
	}
	if _, err := httpclient.New(httpclient.Config{Wrap: func(http.RoundTripper) http.RoundTripper { return nil }}); err == nil {
		t.Error("a Wrap that returns nil is accepted")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCallerThatGivesUpGetsItsOwnError(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	srv := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	c := started(t, httpclient.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if _, err := get(ctx, c, srv.URL); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*httpclient.TimeoutError)) {
		t.Errorf("%v", err)
	}
}

func TestSetIsOneComponent(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, err := httpclient.NewSet(map[string]httpclient.Config{"a": {MaxOpen: -1}, "b": {MaxIdle: -1}})
	if err == nil || !strings.Contains(err.Error(), `new "a": MaxOpen is -1`) || !strings.Contains(err.Error(), `new "b": MaxIdle is -1`) {
		t.Errorf("two faults: %v", err)
	}
	s, err := httpclient.NewSet(map[string]httpclient.Config{
		"billing": {BaseURL: srv.URL, Logger: testkit.Silent()}, "any": {Logger: testkit.Silent()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Abort() }()
	s.SetName("outgoing")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if checks := s.Checks(); len(checks) != 1 || checks[0].Name != "billing" || checks[0].Probe(t.Context()) != nil {
		t.Errorf("checks: %v", checks)
	}
	if s.Get("nobody") != nil || s.Get("billing").String() != `httpclient.Client{"outgoing/billing", in flight: 0}` {
		t.Errorf("%v", s.Get("billing"))
	}
	for _, name := range []string{"billing", "any"} {
		if _, err := get(t.Context(), s.Get(name), srv.URL); err != nil {
			t.Error(err)
		}
	}
	st := s.Stats()
	if len(st.Members) != 2 || st.Members[0].Name != "any" || st.Members[1].Stats.Acquired != 1 || st.Acquired != 2 || st.Wait.Count != 2 {
		t.Errorf("%+v", st)
	}
	if err := errors.Join(s.Drain(t.Context()), s.Stop(t.Context())); err != nil {
		t.Error(err)
	}
}
