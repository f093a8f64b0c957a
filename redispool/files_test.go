package redispool_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/poolkeeper/poolkeeper/redispool"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsFromFileFollowTheFile(t *testing.T) {
	m := mini(t)
	m.RequireUserAuth("app", "one")
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, []byte("app:one\n"))
	p := started(t, redispool.Config{URL: "redis://" + m.Addr(), Credentials: redispool.CredentialsFromFile(path)})
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	m.RequireUserAuth("app", "two")
	write(t, path, []byte("app:two"))
	p.Recycle()
	eventually(t, "the new password is used", func() bool {
		return p.Stats().Evicted["reload"] > 0 && p.Client().Set(within(t, time.Second), "a", 2, 0).Err() == nil
	})

	read := redispool.CredentialsFromFile(path)
	for content, want := range map[string][2]string{
		" app:a:b \n": {"app", "a:b"}, "only-a-password\n": {"", "only-a-password"},
	} {
		write(t, path, []byte(content))
		if user, password, err := read(t.Context()); err != nil || user != want[0] || password != want[1] {
			t.Errorf("%q: %q, %q, %v", content, user, password, err)
		}
	}
	write(t, path, nil)
	if _, _, err := read(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("an empty file: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t.Context()); err == nil {
		t.Error("a missing file was read")
	}
}

// pemFiles writes a new certificate for 127.0.0.1 and its key.
func pemFiles(t *testing.T, dir, name string) (certPath, keyPath string, cert tls.Certificate) {
	t.Helper()
	cert, _ = certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	write(t, certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write(t, keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certPath, keyPath, cert
}

func TestClientCertificateIsRenewedFromDisk(t *testing.T) {
	dir := t.TempDir()
	caPath, _, server := pemFiles(t, dir, "server")
	certPath, keyPath, first := pemFiles(t, dir, "client")
	shown := make(chan []byte, 100)
	m, err := miniredis.RunTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { shown <- raw[0]; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	config, err := redispool.TLSFromFiles(caPath, certPath, keyPath)
	if err != nil {
		t.Fatal(err)
	}
	p := started(t, redispool.Config{URL: "redis://" + m.Addr(), TLS: config})
	if got := <-shown; string(got) != string(first.Certificate[0]) {
		t.Error("another certificate was shown")
	}
	write(t, certPath, []byte("half written"))
	touch(t, certPath)
	if err := p.Client().Ping(t.Context()).Err(); err != nil { // dials
		t.Errorf("while the file cannot be read: %v", err)
	}
	if got := <-shown; string(got) != string(first.Certificate[0]) {
		t.Error("another certificate was shown")
	}
	_, _, second := pemFiles(t, dir, "client")
	touch(t, certPath)
	p.Recycle()
	eventually(t, "a connection with the renewed one", func() bool {
		_ = p.Client().Ping(t.Context()).Err()
		select {
		case got := <-shown:
			return string(got) == string(second.Certificate[0])
		default:
			return false
		}
	})
}

// touch makes sure that the time of the file differs from what it was.
func touch(t *testing.T, path string) {
	t.Helper()
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFromFilesReportsEveryFault(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	write(t, empty, nil)
	_, err := redispool.TLSFromFiles(empty, filepath.Join(dir, "no.crt"), filepath.Join(dir, "no.key"))
	if err == nil || !strings.Contains(err.Error(), "no certificate in") || !strings.Contains(err.Error(), "no.crt") {
		t.Errorf("%v", err)
	}
	if _, err := redispool.TLSFromFiles(filepath.Join(dir, "no.ca"), "only.crt", ""); err == nil ||
		!strings.Contains(err.Error(), "no.ca") || !strings.Contains(err.Error(), "both, or neither") {
		t.Errorf("%v", err)
	}
	if c, err := redispool.TLSFromFiles("", "", ""); err != nil || c.RootCAs != nil || c.GetClientCertificate != nil {
		t.Errorf("%+v, %v", c, err)
	}
}
