package httpclient_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The Registry finds these by type assertions.
var (
	_ lifecycle.Component        = (*httpclient.Client)(nil)
	_ lifecycle.Drainer          = (*httpclient.Client)(nil)
	_ lifecycle.Aborter          = (*httpclient.Client)(nil)
	_ lifecycle.Checker          = (*httpclient.Client)(nil)
	_ lifecycle.StatsProvider    = (*httpclient.Client)(nil)
	_ lifecycle.HolderLister     = (*httpclient.Client)(nil)
	_ lifecycle.SettingsProvider = (*httpclient.Client)(nil)
	_ lifecycle.ObserverSetter   = (*httpclient.Client)(nil)
	_ lifecycle.NameSetter       = (*httpclient.Client)(nil)
	_ lifecycle.EventSource      = (*httpclient.Client)(nil)
	_ lifecycle.ExpiryProvider   = (*httpclient.Client)(nil)

	_ lifecycle.Component        = (*httpclient.Set)(nil)
	_ lifecycle.Drainer          = (*httpclient.Set)(nil)
	_ lifecycle.Aborter          = (*httpclient.Set)(nil)
	_ lifecycle.MultiChecker     = (*httpclient.Set)(nil)
	_ lifecycle.StatsProvider    = (*httpclient.Set)(nil)
	_ lifecycle.HolderLister     = (*httpclient.Set)(nil)
	_ lifecycle.SettingsProvider = (*httpclient.Set)(nil)
	_ lifecycle.NameSetter       = (*httpclient.Set)(nil)
	_ lifecycle.EventSource      = (*httpclient.Set)(nil)
	_ lifecycle.ExpiryProvider   = (*httpclient.Set)(nil)
	_ lifecycle.ObserverSetter   = (*httpclient.Set)(nil)
)

// serve starts a server that ends with the test.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// started returns a client that has been started, and is stopped with the test.
func started(t *testing.T, cfg httpclient.Config) *httpclient.Client {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = testkit.Silent()
	}
	c, err := httpclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// get requests url, and returns the body.
func get(ctx context.Context, c *httpclient.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.HTTP().Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// trusting accepts every certificate.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
