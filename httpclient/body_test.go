package httpclient_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func serveTLS(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func TestBodyThatIsNeverClosedIsNamedAndCutAtStop(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-hang
	})
	defer close(hang)
	var log testkit.Log
	c := started(t, httpclient.Config{Name: "billing", LeakThreshold: short, Logger: log.Logger(), BodyTimeout: poolkeeper.Off})
	resp, err := c.HTTP().Get(srv.URL) //nolint:bodyclose // on purpose
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the leak is counted and logged", func() bool {
		return c.Stats().Leaks == 1 && strings.Contains(log.String(), "kind=leak holder=request")
	})
	if h := c.Holders(); len(h) != 1 || h[0].Kind != poolkeeper.KindRequest || !strings.Contains(h[0].Stack, "body_test.go") ||
		strings.HasPrefix(h[0].Stack, "net/http") {
		t.Errorf("holders: %+v", h)
	}
	if !strings.Contains(log.String(), "body_test.go") {
		t.Errorf("log: %s", log.String())
	}
	ctx := testkit.Within(t, short)
	err = c.Stop(ctx)
	held, ok := errors.AsType[*poolkeeper.HeldError](err)
	if !ok || held.Cut != 1 || len(held.Holders) != 1 || !strings.Contains(err.Error(), `stop "billing": cut off 1 connection held by request for`) {
		t.Errorf("Stop: %v", err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("a read after it: %v", err)
	}
	if s := c.Stats(); s.Open != 0 || s.Evicted[poolkeeper.EvictedClosed] != 1 {
		t.Errorf("%d open, closed: %v", s.Open, s.Evicted)
	}
}

func TestBodyClosedBeforeItsEndIsNamedAndCostsAConnection(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			_, _ = io.WriteString(w, "short")
			return
		}
		_, _ = w.Write(make([]byte, 8<<20))
	})
	var log testkit.Log
	c := started(t, httpclient.Config{Logger: log.Logger()})
	take := func(path string, n int64) {
		t.Helper()
		resp, err := c.HTTP().Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if n < 0 {
			_, err = io.Copy(io.Discard, resp.Body)
		} else {
			_, err = io.CopyN(io.Discard, resp.Body, n)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	take("/short", 5) // all of it, but no end of file
	take("/", -1)
	if s := c.Stats(); s.Unread != 0 || s.Dials != 1 {
		t.Errorf("read to the end: %d unread, %d dials", s.Unread, s.Dials)
	}
	take("/", 10)
	testkit.Eventually(t, "the connection is closed", func() bool { s := c.Stats(); return s.Unread == 1 && s.Open == 0 })
	if !strings.Contains(log.String(), "closed before its end") || !strings.Contains(log.String(), "body_test.go") {
		t.Errorf("log: %s", log.String())
	}
}

func TestResponsesWithoutBodyAreOverAtOnce(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := started(t, httpclient.Config{})
	resp, err := c.HTTP().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if h := c.Holders(); len(h) != 0 {
		t.Errorf("held by %v", h)
	}
	_ = resp.Body.Close()
	if head, err := c.HTTP().Head(srv.URL); err != nil || len(c.Holders()) != 0 {
		t.Errorf("HEAD: %v, held by %v", err, c.Holders())
	} else {
		_ = head.Body.Close()
	}
}

func TestUpgradedConnectionCanBeWrittenTo(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buf.Flush()
		_, _ = io.CopyN(conn, buf, 4)
	})
	c := started(t, httpclient.Config{RequestTimeout: poolkeeper.Off, BodyTimeout: time.Minute})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := c.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	w, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("%T cannot be written to", resp.Body)
	}
	if _, err := io.WriteString(w, "ping"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(w, b); err != nil || string(b) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
	_ = w.Close()
	if len(c.Holders()) != 0 {
		t.Error("it is still held")
	}
}
