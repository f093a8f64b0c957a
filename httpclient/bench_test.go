package httpclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// newPair starts a server that answers after takes. It returns functions that request it, through a bare
// client, which keeps as many idle connections, and through a managed client.
func newPair(b *testing.B, takes time.Duration, cfg httpclient.Config) (bare, managed func() error) {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if takes > 0 {
			<-time.After(takes)
		}
		_, _ = io.WriteString(w, "hello")
	}))
	b.Cleanup(srv.Close)
	cfg.BaseURL, cfg.Logger = srv.URL, testkit.Silent()
	if cfg.Hosts != nil {
		cfg.Hosts = []string{srv.Listener.Addr().String()}
	}
	c, err := httpclient.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Abort() })
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: httpclient.DefaultMaxOpen, MaxConnsPerHost: httpclient.DefaultMaxOpen}
	b.Cleanup(transport.CloseIdleConnections)
	ctx := b.Context()
	return func() error { return fetch(ctx, &http.Client{Transport: transport}, srv.URL) }, func() error { return fetch(ctx, c.HTTP(), srv.URL) }
}

func fetch(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

// BenchmarkRequest compares a request through a managed client with one through a bare http.Client. Over
// loopback, with a server that has nothing to do, nothing hides the difference; the other rows are what
// requests of services take.
func BenchmarkRequest(b *testing.B) {
	for _, takes := range []time.Duration{0, 500 * time.Microsecond, 2 * time.Millisecond} {
		for name, cfg := range map[string]httpclient.Config{"default": {}, "without stacks": {DisableLeakStacks: true}} {
			bare, managed := newPair(b, takes, cfg)
			for _, callers := range []int{1, 16} {
				if takes > 0 && callers == 1 {
					callers = 4 // one would take minutes
				}
				b.Run(fmt.Sprintf("server takes %s/%s/callers %d", takes, name, callers), func(b *testing.B) { paired.Run(b, callers, bare, managed) })
			}
		}
	}
}

// BenchmarkAllocations reports what a request allocates, server included: subtract bare from managed.
func BenchmarkAllocations(b *testing.B) {
	bare, managed := newPair(b, 0, httpclient.Config{})
	_, byHosts := newPair(b, 0, httpclient.Config{Hosts: []string{"the server's"}})
	for name, op := range map[string]func() error{"bare": bare, "managed": managed, "managed, with Hosts": byHosts} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
