package httpclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// scripted is a server that plays what serve does on each connection, by number.
func scripted(t *testing.T, play func(n int, c net.Conn, r *bufio.Reader)) (base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				play(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

// readRequest reads a request with its body.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, req.Body)
	return true
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// idle asserts that nothing of c's requests is left.
func idle(t *testing.T, c *httpclient.Client) {
	t.Helper()
	testkit.Eventually(t, "nothing is left", func() bool {
		s := c.Stats()
		return s.Waiting == 0 && s.InUse == 0 && s.Dialing == 0 && len(c.Holders()) == 0
	})
}

// net/http sends a request again if its connection was closed between two requests. Counts stay right.
func TestConnectionClosedBetweenRequestsCostsNone(t *testing.T) {
	t.Parallel()
	base := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(c, ok)
		}
		_, _ = r.Peek(1) // the next request has begun when the server hangs up
	})
	c := started(t, httpclient.Config{BaseURL: base})
	for i := range 10 {
		var body io.Reader
		method := http.MethodGet
		if i%2 == 1 {
			body, method = strings.NewReader("x"), http.MethodPut // with GetBody
		}
		req, err := http.NewRequestWithContext(t.Context(), method, base, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "1")
		resp, err := c.HTTP().Do(req)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || string(b) != "ok" {
			t.Fatalf("request %d: %q, %v", i, b, err)
		}
	}
	idle(t, c)
	if s := c.Stats(); s.Acquired != 10 {
		t.Errorf("%d acquired", s.Acquired)
	}
}

func TestInformationalResponsesReachTheCaller(t *testing.T) {
	t.Parallel()
	base := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequest(r) {
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+ok)
		}
	})
	c := started(t, httpclient.Config{BaseURL: base})
	var hints []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { hints = append(hints, code); return nil },
	})
	if body, err := get(ctx, c, base); err != nil || body != "ok" || fmt.Sprint(hints) != "[103 102]" {
		t.Errorf("%q, %v, hints %v", body, err, hints)
	}
	idle(t, c)
}

func TestExpectedContinueIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"granted": func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
		"refused": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusExpectationFailed) },
	} {
		srv := serve(t, answer)
		c := started(t, httpclient.Config{BaseURL: srv.URL})
		var sent atomic.Bool
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, readerFunc(func(p []byte) (int, error) {
			sent.Store(true)
			return copy(p, "body"), io.EOF
		}))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := c.HTTP().Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if granted := name == "granted"; err != nil || granted != (string(b) == "body") || granted != sent.Load() {
			t.Errorf("%s: %q, %v, sent: %v", name, b, err, sent.Load())
		}
		idle(t, c)
	}
}

// A server may answer before it has read the request.
func TestAnswerBeforeTheRequestIsWritten(t *testing.T) {
	t.Parallel()
	base := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
	c := started(t, httpclient.Config{BaseURL: base, HeaderTimeout: time.Minute})
	for range 5 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base, io.LimitReader(zeros{}, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.HTTP().Do(req); err == nil {
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", resp.StatusCode)
			}
			_ = resp.Body.Close()
		}
	}
	idle(t, c)
}

func TestRequestBodyThatFailsFailsTheRequest(t *testing.T) {
	t.Parallel()
	for name, srv := range map[string]*httptest.Server{
		"HTTP/1.1": serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }),
		"HTTP/2":   serveTLS(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }),
	} {
		c := started(t, httpclient.Config{BaseURL: srv.URL, TLS: trusting()})
		n := 0
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, readerFunc(func(p []byte) (int, error) {
			if n++; n > 3 {
				return 0, errEnd
			}
			return len(p), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.HTTP().Do(req); !errors.Is(err, errEnd) { //nolint:bodyclose // there is none
			t.Errorf("%s: %v", name, err)
		}
		idle(t, c)
		if _, err := get(t.Context(), c, srv.URL); err != nil {
			t.Errorf("%s, the next request: %v", name, err)
		}
	}
}

func TestRedirectsSendTheBodyAgain(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/there", http.StatusPermanentRedirect)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	c := started(t, httpclient.Config{BaseURL: srv.URL, MaxOpen: 1, AcquireTimeout: time.Minute})
	resp, err := c.HTTP().Post(srv.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	idle(t, c)
	if s := c.Stats(); s.Acquired != 2 || s.Unread != 0 {
		t.Errorf("%d acquired, %d unread", s.Acquired, s.Unread)
	}
}

func TestReadAndCloseAfterTheEnd(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	c := started(t, httpclient.Config{})
	resp, err := c.HTTP().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err = errors.Join(resp.Body.Close(), resp.Body.Close()); err != nil {
		t.Error(err)
	}
	if n, failed := resp.Body.Read(make([]byte, 1)); failed == nil || n != 0 {
		t.Errorf("a read after Close: %d, %v", n, failed)
	}
	resp, err = c.HTTP().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	for range 3 {
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("a read after the end: %d, %v", n, err)
		}
	}
	_ = resp.Body.Close()
	idle(t, c)
}

// A response that promises more than comes is an error of its reader, and the connection is not used
// again.
func TestResponseThatIsCutShort(t *testing.T) {
	t.Parallel()
	base := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		}
	})
	c := started(t, httpclient.Config{BaseURL: base})
	if _, err := get(t.Context(), c, base); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	idle(t, c)
	testkit.Eventually(t, "the connection is closed", func() bool { return c.Stats().Open == 0 })
}

// hangs returns a server that never ends a response. On /body it begins one.
func hangs(t *testing.T) *httptest.Server {
	t.Helper()
	hang := make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		<-hang
	})
	t.Cleanup(func() { close(hang) })
	return srv
}

// The context of a caller may end in any stage.
func TestContextMayEndInAnyStage(t *testing.T) {
	t.Parallel()
	srv, silent := hangs(t), stalls(t)
	for stage, at := range map[string]struct {
		cfg httpclient.Config
		url string
	}{
		"dial": {httpclient.Config{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, "http://server.example"},
		"TLS":    {httpclient.Config{}, "https://" + silent},
		"header": {httpclient.Config{}, srv.URL},
		"body":   {httpclient.Config{}, srv.URL + "/body"},
		"queue":  {httpclient.Config{MaxOpen: 1}, srv.URL},
	} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			at.cfg.FailFastAfter = poolkeeper.Off
			c := started(t, at.cfg)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), short)
					defer cancel()
					if _, err := get(ctx, c, at.url); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*httpclient.TimeoutError)) {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			idle(t, c)
			if err := c.Stop(t.Context()); err != nil || c.Stats().Open != 0 {
				t.Errorf("%v, %d open", err, c.Stats().Open)
			}
		})
	}
}

// Stop may come in any stage: what hangs is cut and named.
func TestStopMayComeInAnyStage(t *testing.T) {
	t.Parallel()
	srv, silent := hangs(t), stalls(t)
	for stage, url := range map[string]string{"TLS": "https://" + silent, "header": srv.URL, "body": srv.URL + "/body"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			c := started(t, httpclient.Config{MaxOpen: 2})
			var wg sync.WaitGroup
			for range 5 { // three of them queue
				wg.Go(func() {
					if _, err := get(t.Context(), c, url); !errors.Is(err, poolkeeper.ErrClosed) {
						t.Errorf("%v", err)
					}
				})
			}
			testkit.Eventually(t, "all are in flight", func() bool { return len(c.Holders()) == 5 })
			err := c.Stop(testkit.Within(t, short))
			if held, ok := errors.AsType[*poolkeeper.HeldError](err); !ok || len(held.Holders) != 5 {
				t.Errorf("%v", err)
			}
			wg.Wait()
			testkit.Eventually(t, "no connection is left", func() bool { return c.Stats().Open == 0 })
		})
	}
}

func TestHundredsOfRequestsShareOneConnection(t *testing.T) {
	t.Parallel()
	for name, srv := range map[string]*httptest.Server{
		"HTTP/1.1": serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
		"HTTP/2":   serveTLS(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
	} {
		c := started(t, httpclient.Config{BaseURL: srv.URL, MaxOpen: 1, AcquireTimeout: time.Minute, TLS: trusting()})
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if body, err := get(t.Context(), c, srv.URL); err != nil || body != "ok" {
					t.Errorf("%s: %q, %v", name, body, err)
				}
			})
		}
		wg.Wait()
		idle(t, c)
		// Of Start and of all requests. Over HTTP/2, net/http dials anew while a first handshake goes on.
		if s := c.Stats(); s.Acquired != 300 || name == "HTTP/1.1" && s.Dials != 2 {
			t.Errorf("%s: %d dials, %d acquired", name, s.Dials, s.Acquired)
		}
	}
}

// A server that goes away says so (GOAWAY): requests in flight end, and the next ones use another
// connection.
func TestGoAwayCostsNoRequest(t *testing.T) {
	t.Parallel()
	srv := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // net/http's server sends GOAWAY
		_, _ = io.Copy(w, r.Body)
	})
	c := started(t, httpclient.Config{BaseURL: srv.URL, TLS: trusting()})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := get(t.Context(), c, srv.URL); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	idle(t, c)
}

func TestProxyIsUsedAndItsFailureIsTold(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, r.URL.Host)
	})
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := started(t, httpclient.Config{BaseURL: service, CheckPath: "/healthz", Proxy: http.ProxyURL(at)})
	if body, failed := get(t.Context(), c, service); failed != nil || body != "billing.example" || asked.Load() != 2 {
		t.Errorf("%q, %v, asked %d times", body, failed, asked.Load())
	}
	proxy.Close()
	c.Reset()
	if _, err = get(t.Context(), c, service); err == nil {
		t.Error("without its proxy it succeeds")
	}
	silent := stalls(t)
	c = started(t, httpclient.Config{TLSTimeout: short, Proxy: http.ProxyURL(&url.URL{Scheme: "https", Host: silent})})
	_, err = get(t.Context(), c, "http://server.example")
	if e, ok := errors.AsType[*httpclient.TimeoutError](err); !ok || e.Stage != httpclient.StageTLS {
		t.Errorf("a proxy that is silent in the handshake: %v", err)
	}
	idle(t, c)
}
