package redispool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// CredentialsFromFile returns a Config.Credentials that reads the file as each connection is opened, so that what a
// secret store puts there is used from the next connection on, and the old connections are replaced then. The file
// holds "user:password", or only the password of Redis' default user; white space around it is ignored. Errors name
// the file, never what is in it.
func CredentialsFromFile(path string) func(context.Context) (user, password string, err error) {
	return func(context.Context) (string, string, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", "", fmt.Errorf("redispool: credentials: %w", err)
		}
		text := strings.TrimSpace(string(b))
		if text == "" {
			return "", "", fmt.Errorf("redispool: credentials: %s is empty", path)
		}
		user, password, ok := strings.Cut(text, ":")
		if !ok {
			return "", text, nil
		}
		return user, password, nil
	}
}

// TLSFromFiles returns a Config.TLS that trusts the authorities in the PEM file ca (empty: those of the system) and
// shows the client certificate in the PEM files cert and key (empty: none). The client certificate is read again, when
// a connection is opened, if the files have changed, so that it may be renewed on disk; until a renewed one can be
// read, the last good one is shown. Authorities are read once: after changing them call it again and Reload.
func TLSFromFiles(ca, cert, key string) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			errs = append(errs, fmt.Errorf("redispool: TLS: authorities: %w", err))
		}
		out.RootCAs = x509.NewCertPool()
		if err == nil && !out.RootCAs.AppendCertsFromPEM(pem) {
			errs = append(errs, fmt.Errorf("redispool: TLS: authorities: no certificate in %s", ca))
		}
	}
	switch {
	case (cert == "") != (key == ""):
		errs = append(errs, errors.New("redispool: TLS: cert and key are needed both, or neither"))
	case cert != "":
		p := &pairFiles{cert: cert, key: key}
		if _, err := p.read(); err != nil {
			errs = append(errs, err)
		}
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.read() }
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// pairFiles is a certificate and its key on disk.
type pairFiles struct {
	cert, key string

	mu     sync.Mutex // guards the following
	loaded [2]time.Time
	pair   *tls.Certificate
}

// read returns the pair as it is on disk, or the last one that could be read.
func (p *pairFiles) read() (*tls.Certificate, error) {
	var now [2]time.Time
	for i, path := range []string{p.cert, p.key} {
		if info, err := os.Stat(path); err == nil {
			now[i] = info.ModTime()
		}
	}
	p.mu.Lock()
	last, pair := p.loaded, p.pair
	p.mu.Unlock()
	if pair != nil && now == last {
		return pair, nil
	}
	fresh, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		if pair != nil {
			return pair, nil // half of it is written, say; the next connection looks again
		}
		return nil, fmt.Errorf("redispool: TLS: client certificate: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loaded, p.pair = now, &fresh
	return p.pair, nil
}
