package httpclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

const short = 50 * time.Millisecond

// stalls is a server that accepts connections and says nothing.
func stalls(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		for _, c := range open {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// Each stage has its own limit, and the error names it.
func TestEachStageHasItsLimit(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/header":
			<-hang
		case "/body":
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-hang
		case "/drip":
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, ".")
				_ = http.NewResponseController(w).Flush()
				<-time.After(short / 10)
			}
		}
	})
	t.Cleanup(func() { close(hang) }) // before the server is closed
	silent := stalls(t)
	for name, c := range map[string]struct {
		cfg   httpclient.Config
		url   string
		stage httpclient.Stage
	}{
		"dial": {httpclient.Config{
			DialTimeout: short,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
		}, "http://server.example", httpclient.StageDial},
		"TLS":     {httpclient.Config{TLSTimeout: short}, "https://" + silent, httpclient.StageTLS},
		"header":  {httpclient.Config{HeaderTimeout: short}, srv.URL + "/header", httpclient.StageHeader},
		"body":    {httpclient.Config{BodyTimeout: short}, srv.URL + "/body", httpclient.StageBody},
		"request": {httpclient.Config{RequestTimeout: 4 * short}, srv.URL + "/drip", httpclient.StageRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Name = "billing"
			client := started(t, c.cfg)
			_, err := get(t.Context(), client, c.url)
			e, ok := errors.AsType[*httpclient.TimeoutError](err)
			if !ok || e.Stage != c.stage || e.Client != "billing" || !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() {
				t.Fatalf("%v", err)
			}
			if want := `httpclient: "billing": `; !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
				t.Errorf("%q", err)
			}
			testkit.Eventually(t, "nothing is in flight", func() bool { return len(client.Holders()) == 0 && client.Stats().Waiting == 0 })
		})
	}
}

// A limit counts its own stage alone: a response that is slow, but within each, is no failure.
func TestLimitsOfOtherStagesDoNotCount(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(2 * short)
		for range 4 {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-time.After(short)
		}
	})
	c := started(t, httpclient.Config{HeaderTimeout: 40 * short, BodyTimeout: 20 * short, AcquireTimeout: short, RequestTimeout: poolkeeper.Off})
	if body, err := get(t.Context(), c, srv.URL); err != nil || body != "xxxx" {
		t.Errorf("%q, %v", body, err)
	}
}

// Time that the caller takes between two reads is not the server's.
func TestBodyTimeoutLeavesOutTheCaller(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	c := started(t, httpclient.Config{BodyTimeout: short})
	resp, err := c.HTTP().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b := make([]byte, 1<<10)
	if _, err := io.ReadFull(resp.Body, b); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * short)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 1<<20-1<<10 {
		t.Errorf("%d more bytes, %v", n, err)
	}
}

func TestFullClientSaysWhoHoldsItsConnections(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	srv := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	c := started(t, httpclient.Config{Name: "billing", BaseURL: srv.URL, MaxOpen: 1, MaxWaiting: 2, AcquireTimeout: short})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(hang)
	wg.Go(func() { _, _ = get(t.Context(), c, srv.URL) })
	testkit.Eventually(t, "the connection is in use", func() bool { s := c.Stats(); return s.InUse == 1 && s.Waiting == 0 })
	_, err := get(t.Context(), c, srv.URL)
	if !errors.Is(err, poolkeeper.ErrAcquireTimeout) || !strings.Contains(err.Error(), `acquire from "billing": 1 of 1 in use, oldest request for`) ||
		!strings.Contains(err.Error(), "main_test.go") {
		t.Errorf("%v", err)
	}
	if s := c.Stats(); s.AcquireTimeouts != 1 || s.Waiting != 0 {
		t.Errorf("%d time-outs, %d waiting", s.AcquireTimeouts, s.Waiting)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiters sync.WaitGroup
	slow := started(t, httpclient.Config{Name: "slow", BaseURL: srv.URL, MaxOpen: 1, MaxWaiting: 2})
	for range 3 {
		waiters.Go(func() { _, _ = get(ctx, slow, srv.URL) })
	}
	testkit.Eventually(t, "two wait", func() bool { s := slow.Stats(); return s.InUse == 1 && s.Waiting == 2 })
	if _, err := get(t.Context(), slow, srv.URL); !errors.Is(err, poolkeeper.ErrTooManyWaiting) {
		t.Errorf("a third: %v", err)
	}
	cancel()
	waiters.Wait()
}

func TestRequestsThatQueueAreCountedAsWaits(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(http.ResponseWriter, *http.Request) { <-time.After(2 * time.Millisecond) })
	c := started(t, httpclient.Config{BaseURL: srv.URL, MaxOpen: 1})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := get(t.Context(), c, srv.URL); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Wait.Count != 20 || s.WaitCount < 19 || s.WaitDuration < 19*time.Millisecond || s.Dials > 2 {
		t.Errorf("%d waits of %s among %d, %d dials", s.WaitCount, s.WaitDuration, s.Wait.Count, s.Dials)
	}
}

func TestTLSOfTheServerIsUsed(t *testing.T) {
	t.Parallel()
	c := started(t, httpclient.Config{TLS: &tls.Config{InsecureSkipVerify: true}})
	srv := serveTLS(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	for range 3 {
		if body, err := get(t.Context(), c, srv.URL); err != nil || body != "HTTP/2.0" {
			t.Errorf("%q, %v", body, err)
		}
	}
	if s := c.Stats(); s.Dials != 1 || s.Reused != 2 || s.Open != 1 || s.InUse != 0 || s.Idle != 1 {
		t.Errorf("%+v", s)
	}
}
