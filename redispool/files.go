package redispool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLSFiles names PEM files that Config.TLS is completed with. Empty names leave to TLS, or to what URL or Options say,
// what they would have said.
type TLSFiles struct {
	CA   string // authorities that the server's certificate must come from; empty: those of the system
	Cert string // certificate that is shown to the server; empty: none
	Key  string // its key
}

// disk is what the files of a configuration hold. Values can be compared.
type disk struct {
	ca, cert, key  string
	user, password string
}

// readFiles reads the files and reports everything that is wrong with them. No error shows what is in them.
func (c Config) readFiles() (disk, error) {
	var d disk
	var errs []error
	read := func(field, path string, into *string) {
		if path == "" {
			return
		}
		b, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("redispool: %s: %w", field, err)) // which names the file
		}
		*into = string(b)
	}
	var credentials string
	read("TLSFiles.CA", c.TLSFiles.CA, &d.ca)
	read("TLSFiles.Cert", c.TLSFiles.Cert, &d.cert)
	read("TLSFiles.Key", c.TLSFiles.Key, &d.key)
	read("CredentialsFile", c.CredentialsFile, &credentials)
	if len(errs) > 0 {
		return disk{}, errors.Join(errs...)
	}
	if d.ca != "" || c.TLSFiles.CA != "" {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(d.ca)) {
			errs = append(errs, fmt.Errorf("redispool: TLSFiles.CA: there is no certificate in %s", c.TLSFiles.CA))
		}
	}
	switch {
	case (c.TLSFiles.Cert == "") != (c.TLSFiles.Key == ""):
		errs = append(errs, errors.New("redispool: TLSFiles: Cert and Key are needed both, or neither"))
	case c.TLSFiles.Cert != "":
		if _, err := tls.X509KeyPair([]byte(d.cert), []byte(d.key)); err != nil {
			errs = append(errs, fmt.Errorf("redispool: TLSFiles.Cert: %s with %s: %w", c.TLSFiles.Cert, c.TLSFiles.Key, err))
		}
	}
	if c.CredentialsFile != "" {
		d.user, d.password = splitCredentials(credentials)
		if d.password == "" {
			errs = append(errs, fmt.Errorf("redispool: CredentialsFile: there is no password in %s", c.CredentialsFile))
		}
	}
	return d, errors.Join(errs...)
}

// splitCredentials reads "user:password", or a password alone.
func splitCredentials(text string) (user, password string) {
	text = strings.TrimSpace(text)
	user, password, ok := strings.Cut(text, ":")
	if !ok {
		return "", text
	}
	return user, password
}

// fileFaults are contradictions between the files and the rest.
func (c Config) fileFaults() error {
	var errs []error
	if c.CredentialsFile != "" && c.Credentials != nil {
		errs = append(errs, errors.New("redispool: Credentials and CredentialsFile are both set; give one of them"))
	}
	if c.TLS != nil && c.TLS.RootCAs != nil && c.TLSFiles.CA != "" {
		errs = append(errs, errors.New("redispool: TLS.RootCAs and TLSFiles.CA are both set; give one of them"))
	}
	if c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil) && c.TLSFiles.Cert != "" {
		errs = append(errs, errors.New("redispool: TLS has a certificate of its own, and TLSFiles.Cert is set; give one of them"))
	}
	return errors.Join(errs...)
}

// hasFiles reports whether anything is read from disk.
func (c Config) hasFiles() bool { return c.CredentialsFile != "" || c.TLSFiles != (TLSFiles{}) }

// secure completes base, which may be nil, by the files, which have been found good.
func (d disk) secure(base *tls.Config) *tls.Config {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		out = base.Clone()
	}
	if d.ca != "" {
		out.RootCAs = x509.NewCertPool()
		out.RootCAs.AppendCertsFromPEM([]byte(d.ca))
	}
	if pair, err := tls.X509KeyPair([]byte(d.cert), []byte(d.key)); err == nil {
		out.Certificates = []tls.Certificate{pair}
	}
	return out
}

// changesOnDisk says which fields' files differ.
func changesOnDisk(from, to disk) []Change {
	var out []Change
	if from.ca != to.ca || from.cert != to.cert || from.key != to.key {
		out = append(out, Change{Field: "TLSFiles", From: "…", To: "…"})
	}
	if from.user != to.user || from.password != to.password {
		out = append(out, Change{Field: "CredentialsFile", From: "…", To: "…"})
	}
	return out
}
