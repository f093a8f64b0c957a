package onfile_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialsHaveAUserOrNot(t *testing.T) {
	for content, want := range map[string][2]string{
		" app:a:b \n": {"app", "a:b"}, "only-a-password\n": {"", "only-a-password"},
	} {
		c, err := onfile.Read("x: ", onfile.Names{Credentials: file(t, content)})
		if user, password := c.Login(); err != nil || user != want[0] || password != want[1] {
			t.Errorf("%q: %q, %q, %v", content, user, password, err)
		}
	}
}

// The field, the file and the limit are named.
func TestFilesThatAreTooLongOrNoFilesAreRefused(t *testing.T) {
	long, dir := file(t, strings.Repeat("hunter2 ", 1<<18)), t.TempDir()
	_, err := onfile.Read("x: ", onfile.Names{TLSFiles: poolkeeper.TLSFiles{CA: dir, Cert: long, Key: long}, Credentials: long})
	for _, want := range []string{
		"x: TLSFiles.CA: read " + dir + ": it is a directory", "x: TLSFiles.Cert: read " + long + ": it has more than 1048576 bytes, the limit",
		"x: TLSFiles.Key: read ", "x: CredentialsFile: read " + long + ": it has more than",
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
}

func TestEveryFaultIsReportedAtOnceWithoutASecret(t *testing.T) {
	const secret = "hunter2"
	ca := testcerts.New(t)
	_, err := onfile.Read("x: ", onfile.Names{
		TLSFiles: poolkeeper.TLSFiles{CA: "/nowhere/ca", Cert: "/nowhere/cert"}, Credentials: "/nowhere/credentials",
	})
	for _, want := range []string{"x: TLSFiles.CA: ", "x: TLSFiles.Cert: ", "x: CredentialsFile: ", "Cert and Key are needed both"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing files: %v\nwant %q", err, want)
		}
	}
	cert, key := ca.Leaf(t, "127.0.0.1")
	other, _ := ca.Leaf(t, "127.0.0.1")
	_, err = onfile.Read("x: ", onfile.Names{
		TLSFiles:    poolkeeper.TLSFiles{CA: file(t, secret), Cert: file(t, string(other)), Key: file(t, string(key))},
		Credentials: file(t, secret+":"),
	})
	for _, want := range []string{"there is no certificate in", "private key does not match", "there is no password in"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wrong files: %v\nwant %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows what is in a file: %v", err)
	}
	_ = cert
}

func TestContradictionsAreReportedAtOnce(t *testing.T) {
	n := onfile.Names{TLSFiles: poolkeeper.TLSFiles{CA: "ca", Cert: "cert", Key: "key"}, Credentials: "credentials"}
	if err := n.Clash("x: ", nil, false); err != nil {
		t.Error(err)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool(), Certificates: make([]tls.Certificate, 1)}
	err := n.Clash("x: ", base, true)
	for _, want := range []string{"x: Credentials and CredentialsFile", "x: TLS.RootCAs and TLSFiles.CA", "x: TLS has a certificate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if (onfile.Names{}).Any() || !n.Any() || (onfile.Names{}).Clash("x: ", base, true) != nil {
		t.Error("no files are taken for files")
	}
}

func TestCertificatesCompleteWhatIsGiven(t *testing.T) {
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	c, err := onfile.Read("x: ", onfile.Names{TLSFiles: poolkeeper.TLSFiles{
		CA: file(t, string(ca.PEM)), Cert: file(t, string(cert)), Key: file(t, string(key)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	base := &tls.Config{ServerName: "db", MinVersion: tls.VersionTLS13}
	if got := c.TLS(base); got.ServerName != "db" || got.RootCAs == nil || len(got.Certificates) != 1 || base.RootCAs != nil {
		t.Errorf("%+v from %+v", got, base)
	}
	if got := c.TLS(nil); got.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v", got)
	}
	if got := (onfile.Contents{}).TLS(base); got != base {
		t.Error("without files the configuration has changed")
	}
	if got := onfile.Differ(c, onfile.Contents{}); len(got) != 1 || got[0].Field != "TLSFiles" {
		t.Errorf("%v differ; want the certificates alone", got)
	}
}
