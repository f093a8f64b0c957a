// Package testcerts makes certificate authorities and certificates for tests. They are valid for
// 90 days, so that no pool warns of their end.
package testcerts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority issues certificates.
type Authority struct {
	PEM []byte // its own certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// valid is for how long what is made is valid.
const valid = 90 * 24 * time.Hour

// New makes an authority.
func New(tb testing.TB) *Authority {
	tb.Helper()
	return Named(tb, "test authority")
}

// Named is New with a name.
func Named(tb testing.TB, name string) *Authority {
	tb.Helper()
	key := newKey(tb)
	template := template(tb, name, time.Now().Add(valid))
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{PEM: encode("CERTIFICATE", der), cert: cert, key: key}
}

// Leaf issues a certificate, for servers and clients, to a name, which may be an IP address. Both
// results are PEM.
func (a *Authority) Leaf(tb testing.TB, name string) (cert, key []byte) {
	tb.Helper()
	return a.LeafUntil(tb, name, time.Now().Add(valid))
}

// LeafUntil is Leaf for a certificate that expires then.
func (a *Authority) LeafUntil(tb testing.TB, name string, until time.Time) (cert, key []byte) {
	tb.Helper()
	own := newKey(tb)
	template := template(tb, name, until)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		tb.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", raw)
}

// Pair is Leaf, ready for a tls.Config.
func (a *Authority) Pair(tb testing.TB, name string) tls.Certificate {
	tb.Helper()
	return a.PairUntil(tb, name, time.Now().Add(valid))
}

// PairUntil is Pair for a certificate that expires then.
func (a *Authority) PairUntil(tb testing.TB, name string, until time.Time) tls.Certificate {
	tb.Helper()
	pair, err := tls.X509KeyPair(a.LeafUntil(tb, name, until))
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

// Certificate is that of a itself.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Pool returns a pool that trusts only a.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func template(tb testing.TB, name string, until time.Time) *x509.Certificate {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: until,
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
