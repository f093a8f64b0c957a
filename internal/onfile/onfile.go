// Package onfile reads the secrets and certificates that a pool's configuration names by file, so
// that what others renew on disk can be compared with what is in use.
package onfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/smallfile"
)

// Names are the files' names; those that are empty are not read.
type Names struct {
	poolkeeper.TLSFiles

	Credentials string // "user:password", or a password alone
}

// Any reports whether there is anything to read.
func (n Names) Any() bool { return n != Names{} }

// Clash reports contradictions between the files and what else a configuration says; askedFor is
// whether a function gives user and password.
func (n Names) Clash(prefix string, base *tls.Config, askedFor bool) error {
	f := faults{prefix: prefix}
	if n.Credentials != "" && askedFor {
		f.add("Credentials and CredentialsFile are both set; give one of them")
	}
	if base != nil && base.RootCAs != nil && n.CA != "" {
		f.add("TLS.RootCAs and TLSFiles.CA are both set; give one of them")
	}
	if base != nil && (len(base.Certificates) > 0 || base.GetClientCertificate != nil) && n.Cert != "" {
		f.add("TLS has a certificate of its own, and TLSFiles.Cert is set; give one of them")
	}
	return errors.Join(f.errs...)
}

// Contents is what the files hold. Values can be compared; they are never to be printed.
type Contents struct {
	ca, cert, key  string
	user, password string
}

// Read reads the files and reports everything that is wrong with them. Errors begin with prefix,
// name the field and the file, and never show what is in it.
func Read(prefix string, n Names) (Contents, error) {
	var c Contents
	var credentials string
	f := faults{prefix: prefix}
	f.read("TLSFiles.CA", n.CA, &c.ca)
	f.read("TLSFiles.Cert", n.Cert, &c.cert)
	f.read("TLSFiles.Key", n.Key, &c.key)
	f.read("CredentialsFile", n.Credentials, &credentials)
	if (n.Cert == "") != (n.Key == "") {
		f.add("TLSFiles: Cert and Key are needed both, or neither")
	}
	if len(f.errs) > 0 {
		return Contents{}, errors.Join(f.errs...)
	}
	if n.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.ca)) {
		f.add("TLSFiles.CA: there is no certificate in %s", n.CA)
	}
	if n.Cert != "" {
		if _, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key)); err != nil {
			f.add("TLSFiles.Cert: %s with %s: %w", n.Cert, n.Key, err)
		}
	}
	if n.Credentials != "" {
		if c.user, c.password = split(credentials); c.password == "" {
			f.add("CredentialsFile: there is no password in %s", n.Credentials)
		}
	}
	if len(f.errs) > 0 {
		return Contents{}, errors.Join(f.errs...)
	}
	return c, nil
}

type faults struct {
	prefix string
	errs   []error
}

func (f *faults) add(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(f.prefix+format, args...))
}

func (f *faults) read(field, path string, into *string) {
	if path == "" {
		return
	}
	b, err := smallfile.Read(path)
	if err != nil {
		f.add("%s: %w", field, err) // which names the file
	}
	*into = string(b)
}

func split(text string) (user, password string) {
	text = strings.TrimSpace(text)
	user, password, ok := strings.Cut(text, ":")
	if !ok {
		return "", text
	}
	return user, password
}

// Login returns user and password; the user is empty if the file has none, the password if there is
// no file.
func (c Contents) Login() (user, password string) { return c.user, c.password }

// Authorities returns the certificates of TLSFiles.CA.
func (c Contents) Authorities() (out []*x509.Certificate) {
	for block, rest := pem.Decode([]byte(c.ca)); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil { // others are not trusted either
			out = append(out, cert)
		}
	}
	return out
}

// TLS completes base, which may be nil and stays as it is, by the certificates. Without any it
// returns base.
func (c Contents) TLS(base *tls.Config) *tls.Config {
	if c.ca == "" && c.cert == "" {
		return base
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		out = base.Clone()
	}
	if c.ca != "" {
		out.RootCAs = x509.NewCertPool()
		out.RootCAs.AppendCertsFromPEM([]byte(c.ca))
	}
	if pair, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key)); err == nil { // Read has tried it
		out.Certificates = []tls.Certificate{pair}
	}
	return out
}

// Differ says which fields' files differ.
func Differ(from, to Contents) (out []poolkeeper.Change) {
	if from.ca != to.ca || from.cert != to.cert || from.key != to.key {
		out = append(out, poolkeeper.Change{Field: "TLSFiles", From: "…", To: "…"})
	}
	if from.user != to.user || from.password != to.password {
		out = append(out, poolkeeper.Change{Field: "CredentialsFile", From: "…", To: "…"})
	}
	return out
}
