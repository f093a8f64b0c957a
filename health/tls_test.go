package health_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

// shake connects to a TLS server and returns how that ends: in the handshake, or, as with TLS 1.3,
// at the first answer.
func shake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	addr := accepting(t, func(c net.Conn) {
		secure := tls.Server(c, server)
		_, _ = secure.Read(make([]byte, 1))
		_ = secure.Close()
	})
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	c := tls.Client(raw, client)
	if err = c.HandshakeContext(t.Context()); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// A handshake that fails is told by whose certificate it fails, and what to do about it.
func TestTLSFailuresSayWhoseCertificateItIs(t *testing.T) {
	ca, other := testcerts.New(t), testcerts.New(t)
	server := func(c *tls.Config) *tls.Config {
		if c.Certificates == nil {
			c.Certificates = []tls.Certificate{ca.Pair(t, "db.example")}
		}
		return c
	}
	client := func(c *tls.Config) *tls.Config {
		if c.RootCAs == nil {
			c.RootCAs = ca.Pool()
		}
		if c.ServerName == "" {
			c.ServerName = "db.example"
		}
		return c
	}
	stranger := other.Pair(t, "client")
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	mutual := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	older := mutual.Clone()
	older.MaxVersion = tls.VersionTLS12
	expired := &tls.Config{Certificates: []tls.Certificate{ca.PairUntil(t, "db.example", time.Now().Add(-time.Hour))}}
	for name, tt := range map[string]struct {
		server, client *tls.Config
		kind           health.Kind
		advice         string
	}{
		"an unknown authority":       {server(&tls.Config{}), client(&tls.Config{RootCAs: other.Pool()}), health.KindTLS, "trust it (TLSFiles.CA)"},
		"no authority at all":        {server(&tls.Config{}), client(&tls.Config{RootCAs: x509.NewCertPool()}), health.KindTLS, "trust it (TLSFiles.CA)"},
		"another name":               {server(&tls.Config{}), client(&tls.Config{ServerName: "elsewhere.example"}), health.KindTLS, "is for other names"},
		"an expired certificate":     {server(expired), client(&tls.Config{}), health.KindTLS, "has expired, or is not valid yet"},
		"no client certificate":      {server(mutual), client(&tls.Config{}), health.KindAuthentication, "demands a client certificate"},
		"a stranger's certificate":   {server(mutual), client(&tls.Config{GetClientCertificate: show}), health.KindAuthentication, "rejects the client certificate"},
		"no certificate, by TLS 1.2": {server(older), client(&tls.Config{}), health.KindTLS, "it demands a client certificate"},
		"no common version": {
			server(&tls.Config{MinVersion: tls.VersionTLS13}), client(&tls.Config{MaxVersion: tls.VersionTLS12}), health.KindTLS, "handshake failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := shake(t, tt.server, tt.client)
			if f := health.Classify(err); f.Kind != tt.kind || !strings.Contains(f.Advice, tt.advice) {
				t.Errorf("%v: %s (%s), want %s with %q", err, f.Kind, f.Advice, tt.kind, tt.advice)
			}
		})
	}
}
