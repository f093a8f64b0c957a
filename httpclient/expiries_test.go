package httpclient_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// The client knows when its own certificate, the authority and the server's certificate expire, and
// warns of the one that does so soon.
func TestExpiriesOfAllCertificatesAreKnown(t *testing.T) {
	t.Parallel()
	ca := testcerts.New(t)
	soon := time.Now().Add(24 * time.Hour)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.PairUntil(t, "billing.example", soon)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	files := poolkeeper.TLSFiles{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	cert, key := ca.Leaf(t, "client.example")
	testkit.Replace(t, files.CA, ca.PEM)
	testkit.Replace(t, files.Cert, cert)
	testkit.Replace(t, files.Key, key)
	var log testkit.Log
	verified := 0
	set, err := httpclient.NewSet(map[string]httpclient.Config{"billing": {
		BaseURL: "https://billing.example", Hosts: []string{srv.Listener.Addr().String()}, TLSFiles: files, Logger: log.Logger(),
		Start: poolkeeper.StartDegraded,
		TLS:   &tls.Config{VerifyConnection: func(tls.ConnectionState) error { verified++; return nil }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Abort() })
	kinds := func() string {
		var out []string
		for _, e := range set.Expiries() {
			out = append(out, e.Kind+" "+e.Subject)
		}
		return strings.Join(out, ", ")
	}
	if got := kinds(); !strings.Contains(got, poolkeeper.ExpiryClientCertificate+" client.example") || !strings.Contains(got, poolkeeper.ExpiryCA) ||
		strings.Contains(got, poolkeeper.ExpiryServerCertificate) {
		t.Errorf("before a handshake: %s", got)
	}
	c := set.Get("billing")
	if _, err := get(t.Context(), c, "https://billing.example"); err != nil {
		t.Fatal(err)
	}
	if first := c.Expiries()[0]; first.Kind != poolkeeper.ExpiryServerCertificate || first.Subject != "billing.example" || verified == 0 {
		t.Errorf("after one: %s, %d times verified by the service's own function", kinds(), verified)
	}
	testkit.Eventually(t, "it is warned of", func() bool { return strings.Contains(log.String(), "kind=expiry") })
	if n := strings.Count(log.String(), "kind=expiry"); n != 1 || !strings.Contains(log.String(), "billing.example") {
		t.Errorf("%d warnings: %s", n, log.String())
	}
	for range 3 {
		c.Reset()
		if _, err := get(t.Context(), c, "https://billing.example"); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "kind=expiry"); n != 1 {
		t.Errorf("%d warnings of the same certificate in a day", n)
	}
}
