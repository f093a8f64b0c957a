package httpclient_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// newPair starts a server, and returns functions that request it: through a bare client, which keeps as
// many idle connections, and through a managed client.
func newPair(b *testing.B, cfg httpclient.Config) (bare, managed func() error) {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	b.Cleanup(srv.Close)
	cfg.BaseURL, cfg.Logger = srv.URL, testkit.Silent()
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

// BenchmarkRequest compares a request through a managed client with one through a bare http.Client,
// over loopback, where nothing of a network hides the difference.
func BenchmarkRequest(b *testing.B) {
	for name, cfg := range map[string]httpclient.Config{"default": {}, "without stacks": {DisableLeakStacks: true}} {
		bare, managed := newPair(b, cfg)
		b.Run(name+"/serial", func(b *testing.B) { paired.Run(b, 1, bare, managed) })
		b.Run(name+"/parallel16", func(b *testing.B) { paired.Run(b, 16, bare, managed) })
	}
}

// BenchmarkAllocations reports what a request allocates, server included: subtract bare from managed.
func BenchmarkAllocations(b *testing.B) {
	bare, managed := newPair(b, httpclient.Config{})
	for name, op := range map[string]func() error{"bare": bare, "managed": managed} {
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
