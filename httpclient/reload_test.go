package httpclient_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestReloadChangesServerAndLimitsOrNothing(t *testing.T) {
	t.Parallel()
	first := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "first") })
	second := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "second") })
	cfg := httpclient.Config{Name: "billing", BaseURL: first.URL, MaxOpen: 5, Logger: testkit.Silent()}
	c := started(t, cfg)
	if changes, err := c.Plan(cfg); err != nil || len(changes) != 0 {
		t.Errorf("a plan without a change: %v, %v", changes, err)
	}
	if _, err := get(t.Context(), c, first.URL); err != nil {
		t.Fatal(err)
	}
	cfg.BaseURL, cfg.MaxOpen = second.URL, 7
	changes, err := c.Plan(cfg)
	if err != nil || len(changes) != 3 || changes[0].Field != "BaseURL" || changes[1].From != "5" || changes[1].To != "7" || changes[2].Field != "MaxIdle" {
		t.Errorf("plan: %v, %v", changes, err)
	}
	if err := c.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if body, err := get(t.Context(), c, second.URL); err != nil || body != "second" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := get(t.Context(), c, first.URL); err == nil {
		t.Error("the first server is still allowed")
	}
	testkit.Eventually(t, "the first server's connection is closed", func() bool { return c.Stats().Evicted[poolkeeper.EvictedReload] >= 1 })

	bad := cfg
	bad.BaseURL = "http://" + testkit.FreeAddr(t)
	if err := c.Reload(t.Context(), bad); err == nil || !strings.Contains(err.Error(), `reload "billing": nothing was changed`) {
		t.Errorf("to no server: %v", err)
	}
	bad.BaseURL = "ftp://x"
	if err := c.Reload(t.Context(), bad); err == nil {
		t.Error("a faulty configuration is accepted")
	}
	bad = cfg
	bad.Start = poolkeeper.StartDegraded
	if err := c.Reload(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "Start is fixed") {
		t.Errorf("what is fixed: %v", err)
	}
	if body, err := get(t.Context(), c, second.URL); err != nil || body != "second" {
		t.Errorf("after the refusals: %q, %v", body, err)
	}
}

func TestResetReplacesConnectionsWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
	})
	c := started(t, httpclient.Config{BaseURL: srv.URL})
	done := make(chan error, 1)
	go func() { _, err := get(t.Context(), c, srv.URL+"/slow"); done <- err }()
	<-entered
	c.Reset()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	testkit.Eventually(t, "its connection is closed", func() bool { return c.Stats().Open == 0 && c.Stats().Generation == 1 })
}

func TestRenewedCertificatesAreUsedAndBadOnesAreNot(t *testing.T) {
	t.Parallel()
	ca, other := testcerts.New(t), testcerts.New(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].DNSNames[0])
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	files := poolkeeper.TLSFiles{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	testkit.Replace(t, files.CA, ca.PEM)
	put := func(of *testcerts.Authority, name string) {
		cert, key := of.Leaf(t, name)
		testkit.Replace(t, files.Cert, cert)
		testkit.Replace(t, files.Key, key)
	}
	put(ca, "first.example")
	var log testkit.Log
	c := started(t, httpclient.Config{
		BaseURL: srv.URL, CheckPath: "/", TLSFiles: files, FileInterval: 10 * time.Millisecond, Logger: log.Logger(),
	})
	shown := func() string {
		body, err := get(t.Context(), c, srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	if got := shown(); got != "first.example" {
		t.Errorf("shows %s", got)
	}
	put(ca, "second.example")
	testkit.Eventually(t, "the renewed certificate is used", func() bool { return shown() == "second.example" })
	put(other, "third.example")
	testkit.Eventually(t, "a bad one is refused", func() bool { return strings.Contains(log.String(), "kind=renewal-refused") })
	if got := shown(); got != "second.example" {
		t.Errorf("shows %s", got)
	}
}

// A look at renewed files waits for a server that hangs, and does not delay Stop.
func TestStopDoesNotWaitForALookAtFiles(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	var hangs atomic.Bool
	looks, hang := make(chan struct{}, 1), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if hangs.Load() {
			looks <- struct{}{}
			<-hang
		}
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(hang) })
	files := poolkeeper.TLSFiles{CA: filepath.Join(t.TempDir(), "ca")}
	testkit.Replace(t, files.CA, ca.PEM)
	c := started(t, httpclient.Config{
		BaseURL: srv.URL, CheckPath: "/", TLSFiles: files, FileInterval: 10 * time.Millisecond, HeaderTimeout: time.Hour,
	})
	hangs.Store(true)
	testkit.Replace(t, files.CA, append(ca.PEM, testcerts.New(t).PEM...))
	<-looks
	if err := c.Stop(testkit.Within(t, testkit.Patience)); err != nil {
		t.Error(err)
	}
}
