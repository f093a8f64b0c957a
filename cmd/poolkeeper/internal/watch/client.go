// Package watch shows a service's status page in a terminal.
//
//	status.json ──▶ fetch ──▶ statuspage.Document ──▶ render ──▶ the screen, redrawn in place
//	                  └ the service is away ──▶ the last document, and since when
//
// It reads the page and changes nothing in the service. What a service writes is printed without
// control characters.
package watch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/statuspage"
)

// Options set how to ask the service, and how often.
type Options struct {
	Interval time.Duration // between two snapshots; positive
	Timeout  time.Duration // of each; positive
	Token    string        // sent as a bearer token; empty: none
	CA       string        // file of the authorities to trust; empty: the system's
}

// Watch asks one service. It is not safe for concurrent use.
type Watch struct {
	opts   Options
	url    *url.URL
	client *http.Client

	last  *statuspage.Document // nil: the service has not answered yet
	since time.Time            // when the service stopped answering; zero: it answers
	err   error                // of the last request; nil: it was answered
}

// longest bounds a document, in bytes. The document of a large service has some 100 KB.
const longest = 16 << 20

// New returns a Watch of the status page at address. It does no I/O but to read the file of
// authorities. Its errors have no part of the address in them.
func New(address string, o Options) (*Watch, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("watch: the URL must begin with http:// or https://, and name a host")
	}
	if o.Interval <= 0 || o.Timeout <= 0 {
		return nil, errors.New("watch: interval and timeout must be positive")
	}
	if !strings.HasSuffix(u.Path, ".json") {
		u = u.JoinPath("status.json")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("watch: authorities: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("watch: authorities: there is no certificate in %s", o.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &Watch{opts: o, url: u, client: &http.Client{Transport: transport, CheckRedirect: stay}}, nil
}

// stay refuses redirects that lead to another server, or from https to http: they would take the token
// along, and net/http keeps it on the way to another port or scheme of the same host.
func stay(r *http.Request, via []*http.Request) error {
	if to, from := r.URL, via[0].URL; to.Scheme != from.Scheme || to.Host != from.Host {
		return fmt.Errorf("the service redirects to %s://%s; give that URL if you trust it", to.Scheme, to.Host)
	}
	const most = 10 // as in net/http
	if len(via) >= most {
		return errors.New("the service redirects in a circle")
	}
	return nil
}

// Close closes the connections.
func (w *Watch) Close() { w.client.CloseIdleConnections() }

// ask fetches a document and notes whether the service is there, unless ctx ends.
func (w *Watch) ask(ctx context.Context, now time.Time) {
	d, err := w.fetch(ctx)
	if err == nil {
		w.last, w.since, w.err = d, time.Time{}, nil
		return
	}
	if ctx.Err() != nil {
		return // the watch ends
	}
	if w.since.IsZero() {
		w.since = now
	}
	w.err = err
}

func (w *Watch) fetch(ctx context.Context) (*statuspage.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the URL cannot be asked")
	}
	if w.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+w.opts.Token)
	}
	res, err := w.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL, which may hold a password
			err = e.Err
		}
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the service answers %s; is this the URL of its status page?", res.Status)
	}
	var d statuspage.Document
	if err := json.NewDecoder(io.LimitReader(res.Body, longest)).Decode(&d); err != nil {
		return nil, fmt.Errorf("the answer is not that of a status page: %w", err)
	}
	if d.Version != statuspage.Version {
		return nil, fmt.Errorf("the status page has version %d, and this program knows version %d", d.Version, statuspage.Version)
	}
	return &d, nil
}

// place is the URL without what may be a secret.
func (w *Watch) place() string {
	return (&url.URL{Scheme: w.url.Scheme, Host: w.url.Host, Path: w.url.Path}).String()
}
