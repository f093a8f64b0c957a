package lifecycle_test

import (
	"crypto/tls"
	"net"
	"net/http"
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

// presented is the name in the certificate that a new connection is shown.
func presented(t *testing.T, s *lifecycle.Server) string {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func TestCertificateFilesAreRenewedAndABadPairKeepsTheOld(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	put := func(name string) {
		cert, key := ca.Leaf(t, name)
		testkit.Replace(t, certFile, cert)
		testkit.Replace(t, keyFile, key)
	}
	put("first.example")
	var log testkit.Log
	reg := lifecycle.New(lifecycle.Config{Logger: log.Logger()})
	var mu sync.Mutex
	var kinds []string
	reg.Subscribe(func(e event.Event) {
		if p, ok := e.(*event.Pool); ok {
			mu.Lock()
			defer mu.Unlock()
			kinds = append(kinds, p.Name+" "+string(p.Event.Kind))
		}
	})
	s := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(hello)}, lifecycle.WithCertFiles(certFile, keyFile))
	if got := s.Expiries(); got != nil {
		t.Errorf("before Start: %v", got)
	}
	reg.Add("api", s)
	mustStart(t, reg)
	if got := presented(t, s); got != "first.example" {
		t.Errorf("presents %s", got)
	}
	put("second.example")
	if got := presented(t, s); got != "first.example" {
		t.Errorf("presents %s: it has looked again within the period", got)
	}
	s.LookAtFiles()
	if got := presented(t, s); got != "second.example" {
		t.Errorf("presents %s after the renewal", got)
	}
	other, _ := ca.Leaf(t, "third.example")
	testkit.Replace(t, certFile, other) // its key is another one
	s.LookAtFiles()
	if got := presented(t, s); got != "second.example" {
		t.Errorf("presents %s: the pair does not fit", got)
	}
	put("fourth.example")
	s.LookAtFiles()
	if got := s.Expiries(); len(got) != 1 || got[0].Subject != "second.example" {
		t.Errorf("expiries: %v; reading files is for handshakes", got)
	}
	if got := presented(t, s); got != "fourth.example" {
		t.Errorf("presents %s", got)
	}
	got := s.Expiries()
	if len(got) != 1 || got[0].Kind != poolkeeper.ExpiryServerCertificate || got[0].Subject != "fourth.example" || got[0].NotAfter.IsZero() {
		t.Errorf("expiries: %v", got)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(kinds, ", "); got != "api renewed, api renewal-refused, api renewed" {
		t.Errorf("events: %s", got)
	}
	for _, want := range []string{
		`level=INFO msg="lifecycle: the renewed certificate is presented from now on" pool=api kind=renewed subject=second.example not_after=`,
		`level=WARN msg="lifecycle: the renewed certificate was rejected; the old one stays in use" pool=api kind=renewal-refused`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no line\n%s\nbut\n%s", want, log.String())
		}
	}
}

func TestStartFailsAgainWithTheSameBadCertificateFiles(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, _ := ca.Leaf(t, "api.example")
	_, key := ca.Leaf(t, "api.example")
	testkit.Replace(t, certFile, cert)
	testkit.Replace(t, keyFile, key)
	s := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0"}, lifecycle.WithCertFiles(certFile, keyFile))
	for range 2 {
		if err := s.Start(t.Context()); err == nil {
			t.Error("started with a key that does not fit")
		}
	}
	cert, key = ca.Leaf(t, "api.example")
	testkit.Replace(t, certFile, cert)
	testkit.Replace(t, keyFile, key)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := presented(t, s); got != "api.example" {
		t.Errorf("presents %s", got)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServerWarnsOfACertificateThatExpiresSoonOnce(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	var log testkit.Log
	reg := lifecycle.New(lifecycle.Config{Logger: log.Logger()})
	soon := ca.PairUntil(t, "127.0.0.1", time.Now().Add(24*time.Hour))
	s := lifecycle.HTTPServer(&http.Server{
		Addr: "127.0.0.1:0", Handler: http.HandlerFunc(hello), TLSConfig: &tls.Config{Certificates: []tls.Certificate{soon}},
	})
	reg.Add("api", s)
	mustStart(t, reg)
	for range 3 {
		if code, _, err := get(t.Context(), client(t), "https://"+s.Addr().String()); err != nil || code != http.StatusOK {
			t.Fatalf("%d, %v", code, err)
		}
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `level=WARN msg="lifecycle: the server's certificate expires soon; renew it" pool=api kind=expiry what=server-certificate`
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
}

func TestExpiriesOfGivenCertificates(t *testing.T) {
	pair := testcerts.New(t).Pair(t, "127.0.0.1")
	_, s := serve(t, &http.Server{Handler: http.HandlerFunc(hello), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}})
	if got := s.Expiries(); len(got) != 1 || !got[0].NotAfter.Equal(pair.Leaf.NotAfter) {
		t.Errorf("expiries: %v, want %s", got, pair.Leaf.NotAfter)
	}
	if _, plain := serve(t, &http.Server{}); plain.Expiries() != nil {
		t.Errorf("without TLS: %v", plain.Expiries())
	}
}

func TestServerCountsRequestsStreamsAndConnections(t *testing.T) {
	entered := make(chan struct{})
	release := make(chan struct{})
	wait := func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release }
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", wait)
	mux.Handle("/stream", lifecycle.Stream(http.HandlerFunc(wait)))
	hijacked := make(chan net.Conn, 1)
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- c
	})
	states := make(chan http.ConnState, 100)
	_, s := serve(t, &http.Server{Handler: mux, ConnState: func(_ net.Conn, to http.ConnState) { states <- to }})
	want := func(what string, w poolkeeper.ServerStats) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return s.Stats() == w })
	}
	want("nothing", poolkeeper.ServerStats{})
	var wg sync.WaitGroup
	for _, path := range []string{"/wait", "/stream"} {
		wg.Go(func() {
			if code, _, err := get(t.Context(), client(t), "http://"+s.Addr().String()+path); err != nil || code != http.StatusOK {
				t.Errorf("%s: %d %v", path, code, err)
			}
		})
	}
	<-entered
	<-entered
	want("two under way", poolkeeper.ServerStats{InFlight: 2, Streams: 1, Connections: 2, Requests: 2})
	raw, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if _, err := raw.Write([]byte("GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	taken := <-hijacked
	want("a third is hijacked", poolkeeper.ServerStats{InFlight: 2, Streams: 1, Connections: 3, Hijacked: 1, Requests: 3})
	_ = taken.Close()
	close(release)
	wg.Wait()
	testkit.Eventually(t, "nothing is under way", func() bool {
		st := s.Stats()
		return st.InFlight == 0 && st.Streams == 0 && st.Hijacked == 0 && st.Requests == 3
	})
	seen := map[http.ConnState]bool{}
	for len(states) > 0 {
		seen[<-states] = true
	}
	if !seen[http.StateHijacked] || !seen[http.StateActive] {
		t.Errorf("the service's own ConnState has heard of %v", seen)
	}
}
