package lifecycle_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// client returns a client of its own: no connection outlives the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// serve starts a registry with one server on a free port.
func serve(t *testing.T, srv *http.Server, opts ...lifecycle.ServerOption) (*lifecycle.Registry, *lifecycle.Server) {
	t.Helper()
	if srv.Addr == "" {
		srv.Addr = "127.0.0.1:0"
	}
	reg := lifecycle.New(quiet())
	s := lifecycle.HTTPServer(srv, opts...)
	reg.Add("api", s)
	mustStart(t, reg)
	t.Cleanup(func() { _ = reg.Shutdown(context.Background()) })
	return reg, s
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func TestStartReturnsWhenTheServerListens(t *testing.T) {
	_, s := serve(t, &http.Server{Handler: http.HandlerFunc(hello)})
	conn, err := net.Dial("tcp", s.Addr().String()) // at once: no retry
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	code, body, err := get(t.Context(), client(t), "http://"+s.Addr().String())
	if err != nil || code != http.StatusOK || body != "hello" {
		t.Errorf("%d %q %v", code, body, err)
	}
}

func TestWhatKeepsAServerFromListeningIsAnErrorOfStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, c := range map[string]struct {
		srv  *http.Server
		opts []lifecycle.ServerOption
		want string
	}{
		"taken port":        {&http.Server{Addr: taken.Addr().String()}, nil, "address already in use"},
		"no such file":      {&http.Server{Addr: "127.0.0.1:0"}, []lifecycle.ServerOption{lifecycle.WithCertFiles("none.pem", "none.key")}, "none.pem"},
		"no certificate":    {&http.Server{Addr: "127.0.0.1:0", TLSConfig: &tls.Config{}}, nil, "TLSConfig has no certificate"},
		"listener function": {&http.Server{}, []lifecycle.ServerOption{lifecycle.WithListen(func(context.Context) (net.Listener, error) { return nil, errDied })}, errDied.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			s := lifecycle.HTTPServer(c.srv, c.opts...)
			reg.Add("api", s)
			err := reg.Start(t.Context())
			ce := componentError(t, err, "api")
			wantText(t, ce.Error(), c.want)
			if s.Addr() != nil {
				t.Errorf("Addr = %v, want nil", s.Addr())
			}
		})
	}
}

func TestServerSpeaksTLSAndHTTP2(t *testing.T) {
	t.Parallel() // it waits on real time
	ca := testcerts.New(t)
	certPEM, keyPEM := ca.Leaf(t, "127.0.0.1")
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	testkit.Replace(t, certFile, certPEM)
	testkit.Replace(t, keyFile, keyPEM)
	proto := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	for name, start := range map[string]func() (*lifecycle.Registry, *lifecycle.Server){
		"TLSConfig": func() (*lifecycle.Registry, *lifecycle.Server) {
			return serve(t, &http.Server{Handler: proto, TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}}})
		},
		"WithCertFiles": func() (*lifecycle.Registry, *lifecycle.Server) {
			return serve(t, &http.Server{Handler: proto}, lifecycle.WithCertFiles(certFile, keyFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, s := start()
			code, body, err := get(t.Context(), client(t), "https://"+s.Addr().String())
			if err != nil || code != http.StatusOK || body != "HTTP/2.0" {
				t.Errorf("%d %q %v", code, body, err)
			}
			if err := reg.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServerListensOnWhatItIsGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	_, s := serve(t, &http.Server{Handler: http.HandlerFunc(hello)}, nil, lifecycle.WithListen(
		func(ctx context.Context) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(ctx, "unix", path)
		},
	))
	if s.Addr().Network() != "unix" {
		t.Errorf("network %s", s.Addr().Network())
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	if code, body, err := get(t.Context(), c, "http://x/"); code != http.StatusOK || body != "hello" {
		t.Errorf("%d %q %v", code, body, err)
	}
}

func TestRequestsInFlightFinishAndNewConnectionsAreRefused(t *testing.T) { // INV-8
	entered, release := make(chan struct{}), make(chan struct{})
	reg, s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		if r.Context().Err() != nil {
			t.Error("the context of an ordinary request has ended")
		}
		_, _ = io.WriteString(w, "done")
	})})
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, body, err := get(t.Context(), client(t), "http://"+s.Addr().String()); code != http.StatusOK || body != "done" {
			t.Errorf("%d %q %v", code, body, err)
		}
	})
	<-entered
	wg.Go(func() {
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	eventually(t, "refused", func() bool {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if got := stateOf(t, reg, "api"); got != lifecycle.StateDraining {
		t.Errorf("state %s, want draining", got)
	}
	close(release)
	wg.Wait()
}

// A client that keeps its connections would send its next request at the moment at which Shutdown
// closes them.
func TestResponsesEndTheirConnectionsDuringTheDrainDelay(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			p := new(http.Protocols)
			p.SetHTTP1(version == 1)
			p.SetUnencryptedHTTP2(version == 2)
			s := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Protocols: p, Handler: http.NotFoundHandler()})
			reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent(), DrainDelay: 10 * time.Second, ShutdownTimeout: time.Minute})
			reg.Add("api", s)
			if err := reg.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Transport: &http.Transport{Protocols: p}}
			defer c.CloseIdleConnections()
			reused := func() bool {
				var again bool
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { again = i.Reused }})
				if code, _, err := get(ctx, c, "http://"+s.Addr().String()); code != http.StatusNotFound || err != nil {
					t.Fatalf("%d, %v", code, err)
				}
				return again
			}
			reused()
			if !reused() {
				t.Fatal("before the shutdown, a connection is not used again")
			}
			ctx, cutShort := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- reg.Shutdown(ctx) }()
			eventually(t, "connections are not used again", func() bool { return !reused() })
			for range 3 {
				if reused() {
					t.Error("a connection is used again during the drain delay")
				}
			}
			cutShort()
			if err := <-done; err == nil {
				t.Error("a shutdown that is cut short has no error")
			}
		})
	}
}

func TestStreamsEndAtDrainAndOrdinaryRequestsRunOn(t *testing.T) {
	streaming, entered, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/events", lifecycle.Stream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, "first")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		close(streaming)
		<-r.Context().Done()
		if cause := context.Cause(r.Context()); !errors.Is(cause, poolkeeper.ErrDraining) {
			t.Errorf("cause %v, want ErrDraining", cause)
		}
		_, _ = fmt.Fprintln(w, "bye")
	})))
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	})
	reg, s := serve(t, &http.Server{Handler: mux})
	base := "http://" + s.Addr().String()
	var wg, stream sync.WaitGroup
	stream.Go(func() {
		if code, body, err := get(t.Context(), client(t), base+"/events"); code != http.StatusOK || body != "first\nbye\n" || err != nil {
			t.Errorf("stream: %d %q %v", code, body, err)
		}
	})
	wg.Go(func() {
		if code, body, err := get(t.Context(), client(t), base+"/slow"); code != http.StatusOK || body != "done" {
			t.Errorf("slow: %d %q %v", code, body, err)
		}
	})
	<-streaming
	<-entered
	wg.Go(func() {
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	stream.Wait() // ends although the slow request goes on
	close(release)
	wg.Wait()
}

func TestStreamRefusesNewRequestsWhileDrainingAndIsTransparentElsewhere(t *testing.T) {
	h := lifecycle.Stream(http.HandlerFunc(hello))
	elsewhere := httptest.NewRecorder()
	h.ServeHTTP(elsewhere, httptest.NewRequest(http.MethodGet, "/", nil))
	if elsewhere.Body.String() != "hello" {
		t.Errorf("under another server: %q", elsewhere.Body)
	}

	entered, release := make(chan struct{}), make(chan struct{})
	_, s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		h.ServeHTTP(w, r)
	})})
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, _, err := get(t.Context(), client(t), "http://"+s.Addr().String()); code != http.StatusServiceUnavailable {
			t.Errorf("%d %v, want 503", code, err)
		}
	})
	<-entered
	wg.Go(func() {
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "draining", func() bool {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(release)
	wg.Wait()
}

// hijack serves one hijacked connection that echoes lines, and returns the client's end.
func hijack(t *testing.T) (*lifecycle.Registry, net.Conn, *bufio.Reader) {
	t.Helper()
	reg, s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() { // the handler returns, the connection lives on
			defer func() { _ = conn.Close() }()
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = rw.WriteString(line)
				_ = rw.Flush()
			}
		}()
	})})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(conn)
	echo(t, conn, r)
	return reg, conn, r
}

func echo(t *testing.T, conn net.Conn, r *bufio.Reader) {
	t.Helper()
	_, _ = fmt.Fprintln(conn, "ping")
	if line, err := r.ReadString('\n'); err != nil || line != "ping\n" {
		t.Fatalf("echo: %q %v", line, err)
	}
}

func TestHijackedConnectionsAreWaitedFor(t *testing.T) {
	reg, conn, r := hijack(t)
	done := make(chan error, 1)
	go func() { done <- reg.Shutdown(context.Background()) }()
	eventually(t, "draining", func() bool { return stateOf(t, reg, "api") == lifecycle.StateDraining })
	for range 20 { // it works while the server drains
		echo(t, conn, r)
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned with a hijacked connection open: %v", err)
	default:
	}
	_ = conn.Close()
	if err := result(t, done); err != nil {
		t.Error(err)
	}
}

func TestHijackedConnectionsAreCutAtTheDeadlineOnly(t *testing.T) { // INV-2
	t.Parallel() // it waits on real time
	reg, conn, r := hijack(t)
	err := reg.Shutdown(within(t, time.Second))
	ce := componentError(t, err, "api")
	wantErr(t, ce, context.DeadlineExceeded)
	wantText(t, ce.Error(), "connections open: 1")
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("the connection is open")
	}
	_ = conn.Close()
}

func TestHandlerThatIgnoresEverythingIsNamed(t *testing.T) { // INV-2
	t.Parallel() // it waits on real time
	entered, release := make(chan struct{}), make(chan struct{})
	reg, s := serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		stuckHere(release)
	})})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := get(t.Context(), client(t), "http://"+s.Addr().String()); err == nil {
			t.Error("the request has succeeded")
		}
	})
	<-entered
	err := reg.Shutdown(within(t, time.Second))
	wg.Wait() // its connection was cut
	ce := componentError(t, err, "api")
	wantErr(t, ce, lifecycle.ErrStopTimeout)
	wantText(t, ce.Stack, "lifecycle_test.stuckHere (")
	wantText(t, ce.Error(), "requests in flight: 1, connections open: 1", "requests still running after they were cut off: 1")
	if got := stateOf(t, reg, "api"); got != lifecycle.StateAbandoned {
		t.Errorf("state %s, want abandoned: its handler runs", got)
	}
	close(release)
}

func TestServerDiesWhenItsListenerFails(t *testing.T) {
	var inner net.Listener
	reg, _ := serve(t, &http.Server{Handler: http.HandlerFunc(hello)}, lifecycle.WithListen(
		func(ctx context.Context) (_ net.Listener, err error) {
			var lc net.ListenConfig
			inner, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
			return inner, err
		},
	))
	_ = inner.Close()
	<-reg.Done()
	ce := componentError(t, reg.Shutdown(t.Context()), "api")
	if ce.Phase != event.PhaseRun {
		t.Errorf("phase %s, want run", ce.Phase)
	}
	wantErr(t, ce, net.ErrClosed)
}

func TestServerKeepsWhatTheUserHasSet(t *testing.T) {
	type key struct{}
	var states sync.Map
	_, s := serve(t, &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Context().Value(key{}))
		}),
		BaseContext: func(l net.Listener) context.Context {
			return context.WithValue(context.Background(), key{}, l.Addr().Network())
		},
		ConnState: func(_ net.Conn, s http.ConnState) { states.Store(s, true) },
	})
	if _, body, err := get(t.Context(), client(t), "http://"+s.Addr().String()); body != "tcp" {
		t.Errorf("body %q, %v", body, err)
	}
	if _, ok := states.Load(http.StateActive); !ok {
		t.Error("ConnState was not called")
	}
}

func TestServerMayBeStoppedAndAbortedAnyTime(t *testing.T) {
	for name, calls := range map[string][]string{
		"never started": {"stop", "abort", "stop", "drain"},
		"started":       {"start", "abort", "stop", "abort", "drain", "stop"},
		"drained":       {"start", "drain", "drain", "stop", "abort"},
	} {
		t.Run(name, func(t *testing.T) {
			s := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0"})
			for _, call := range calls {
				var err error
				switch call {
				case "start":
					err = s.Start(t.Context())
				case "drain":
					err = s.Drain(t.Context())
				case "stop":
					err = s.Stop(t.Context())
				case "abort":
					err = s.Abort()
				}
				if err != nil {
					t.Errorf("%s: %v", call, err)
				}
			}
			if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be started") {
				t.Errorf("Start after it = %v", err)
			}
		})
	}
}

func TestServerStoppedAloneDrainsForItself(t *testing.T) {
	entered := make(chan struct{})
	s := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		},
	)})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _, _ = get(t.Context(), client(t), "http://"+s.Addr().String()) })
	<-entered
	wantErr(t, s.Stop(within(t, 50*time.Millisecond)), context.DeadlineExceeded)
	wg.Wait()
}

func TestHTTPClientClosesIdleConnections(t *testing.T) {
	_, s := serve(t, &http.Server{Handler: http.HandlerFunc(hello)})
	c := &http.Client{Transport: &http.Transport{}}
	reg := lifecycle.New(quiet())
	reg.Add("client", lifecycle.HTTPClient(c))
	mustStart(t, reg)
	if _, _, err := get(t.Context(), c, "http://"+s.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// goleak sees the goroutines of the connection if it is still there.
}

type countingCloser struct {
	closed int
	err    error
}

func (c *countingCloser) Close() error { c.closed++; return c.err }

func TestCloserClosesOnceWhetherStartedOrNot(t *testing.T) {
	for _, started := range []bool{false, true} {
		c := &countingCloser{err: errDied}
		comp := lifecycle.Closer(c)
		reg := lifecycle.New(quiet())
		reg.Add("file", comp)
		if started {
			mustStart(t, reg)
		}
		wantErr(t, reg.Shutdown(t.Context()), errDied)
		wantErr(t, comp.Stop(t.Context()), errDied)
		if c.closed != 1 {
			t.Errorf("closed %d times, want 1", c.closed)
		}
	}
}

func TestNilAdaptersAreFaults(t *testing.T) {
	reg := lifecycle.New(quiet())
	reg.Add("server", lifecycle.HTTPServer(nil))
	reg.Add("client", lifecycle.HTTPClient(nil))
	reg.Add("closer", lifecycle.Closer(nil))
	reg.Go("worker", nil)
	err := reg.Validate()
	for _, name := range []string{"server", "client", "closer", "worker"} {
		wantText(t, err.Error(), fmt.Sprintf("add %q: nil component", name))
	}
}

func result(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(testkit.Patience):
		t.Fatal("Run did not return")
		return nil
	}
}
