package redispool_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// write replaces a file, as secret stores do: all at once.
func write(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, der := signed(t, name, authority{})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate for 127.0.0.1, for servers and clients, and its key.
func (a authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	priv, der := signed(t, name, a)
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// signed makes a certificate by the authority, or one of an authority itself if that is zero.
func signed(t *testing.T, name string, by authority) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := by.cert, by.key
	if parent == nil {
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func TestFaultsOfFilesAreAllReportedAndShowNothing(t *testing.T) { // INV-12
	dir := t.TempDir()
	path := func(name, content string) string {
		p := filepath.Join(dir, name)
		write(t, p, []byte(content))
		return p
	}
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "client")
	_, otherKey := ca.issue(t, "other")
	good := redispool.TLSFiles{CA: path("ca", string(ca.pem)), Cert: path("cert", string(cert)), Key: path("key", string(key))}
	if err := (redispool.Config{URL: "redis://h", TLSFiles: good, CredentialsFile: path("ok", " app:a:b \n")}).Validate(); err != nil {
		t.Errorf("good files: %v", err)
	}
	for name, c := range map[string]struct {
		cfg  redispool.Config
		want []string
	}{
		"missing": {
			redispool.Config{TLSFiles: redispool.TLSFiles{CA: dir + "/no1", Cert: dir + "/no2", Key: dir + "/no3"}, CredentialsFile: dir + "/no4"},
			[]string{"TLSFiles.CA: open", "no1", "no2", "no3", "CredentialsFile: open", "no4"},
		},
		"unfit": {
			redispool.Config{
				TLSFiles:        redispool.TLSFiles{CA: path("empty", ""), Cert: good.Cert, Key: path("otherkey", string(otherKey))},
				CredentialsFile: path("half", "hunter2:"),
			},
			[]string{"no certificate in", "cert with", "private key does not match", "no password in"},
		},
		"one of two": {redispool.Config{TLSFiles: redispool.TLSFiles{Cert: good.Cert}}, []string{"both, or neither"}},
		"contradictions": {
			redispool.Config{
				TLSFiles:        good,
				TLS:             &tls.Config{RootCAs: x509.NewCertPool(), Certificates: make([]tls.Certificate, 1)},
				CredentialsFile: path("ok", "app:x"),
				Credentials:     func(context.Context) (string, string, error) { return "", "", nil },
			},
			[]string{"TLS.RootCAs and TLSFiles.CA", "TLS has a certificate of its own", "Credentials and CredentialsFile"},
		},
	} {
		c.cfg.URL = "redis://h"
		err := c.cfg.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %q", name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"/run/redis.sock"}, StreamingCredentialsProvider: struct {
			auth.StreamingCredentialsProvider
		}{}},
		TLSFiles: good, CredentialsFile: path("ok", "x"),
	}.Validate()
	for _, want := range []string{"local socket", "StreamingCredentialsProvider"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %q", err, want)
		}
	}
}
