package httpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// mostChecked bounds how much of a check's answer is read.
const mostChecked = 64 << 10

// Check requests CheckPath on a connection of its own, so that a full client is not taken for a dead
// server. Without CheckPath it opens a connection; without BaseURL it returns nil at once. It blocks
// for as long as dial, TLS handshake and header may take together, at most until ctx ends. It returns
// a [StatusError] for an answer that is not healthy.
//
// Hosts are checked side by side. If only some are healthy, the error is a [health.Degraded].
func (c *Client) Check(ctx context.Context) error {
	all, began := c.endpoints(), monotime.Now()
	errs := c.askAll(ctx, all)
	for i, e := range all {
		if errs[i] == nil || ctx.Err() == nil {
			e.host.breaker.Failed(began, errs[i])
		}
	}
	c.warnOfExpiries()
	err := errors.Join(errs...)
	switch {
	case len(all) == 1:
		return errs[0]
	case slices.Contains(errs, nil):
		return health.Degraded(err)
	}
	return err
}

// attempt is one attempt of Start. It succeeds if one host is healthy.
func (c *Client) attempt(ctx context.Context) error { return someAnswer(c.askAll(ctx, c.endpoints())) }

// endpoints returns the endpoints of all hosts.
func (c *Client) endpoints() []*endpoint {
	r := c.rotation.Load()
	out := make([]*endpoint, len(r.all))
	for i, h := range r.all {
		out[i] = h.endpoint.Load()
	}
	return out
}

// askAll checks the servers of endpoints side by side, each within its patience.
func (c *Client) askAll(ctx context.Context, all []*endpoint) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, e.cfg.patience())
			defer cancel()
			if errs[i] = c.ask(bounded, e); errs[i] != nil && e.host.addr != "" {
				errs[i] = fmt.Errorf("host %s: %w", e.host.addr, errs[i])
			}
		})
	}
	wg.Wait()
	return errs
}

// someAnswer returns nil if a server has answered, or none was asked. Otherwise it joins the errors.
func someAnswer(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

// patience is how long a check may take.
func (c Config) patience() time.Duration { return c.DialTimeout + c.TLSTimeout + c.HeaderTimeout }

// ask requests CheckPath from the server of an endpoint, or opens a connection to it.
func (c *Client) ask(ctx context.Context, e *endpoint) error {
	cfg := e.cfg
	if e.base == nil {
		return nil
	}
	check := e.base.JoinPath(cfg.CheckPath)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, check.String(), nil)
	if err != nil {
		return fmt.Errorf("httpclient: check %q: %w", c.state.Name(), err)
	}
	if cfg.CheckPath == "" {
		return c.knock(ctx, e, req)
	}
	if f := cfg.Authorize; f != nil {
		if refused := c.events.Guarded("Authorize", func() error { return f(req) }); refused != nil {
			return refused
		}
	}
	one := e.native.Clone()
	one.DisableKeepAlives = true
	resp, err := one.RoundTrip(req)
	if err != nil {
		return err
	}
	_, readErr := io.Copy(io.Discard, io.LimitReader(resp.Body, mostChecked))
	_ = resp.Body.Close()
	switch s := resp.StatusCode; {
	case s >= 500, s == 401, s == 403, s == 404, s == 429:
		return &StatusError{Client: e.host.name(), Status: s}
	}
	return readErr
}

// knock opens a connection to the server, or to the proxy before it, and closes it.
func (c *Client) knock(ctx context.Context, e *endpoint, req *http.Request) error {
	to, secure := req.URL, req.URL.Scheme == "https"
	if f := e.native.Proxy; f != nil {
		proxy, err := f(req)
		if err != nil {
			return err
		}
		if proxy != nil {
			to, secure = proxy, proxy.Scheme == "https"
		}
	}
	port := to.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	sock, err := c.dial(ctx, e, "tcp", net.JoinHostPort(to.Hostname(), port))
	if err != nil {
		return err
	}
	defer func() { _ = sock.Close() }()
	if !secure {
		return nil
	}
	conf := e.native.TLSClientConfig.Clone()
	if conf.ServerName == "" {
		conf.ServerName = to.Hostname()
	}
	return tls.Client(sock, conf).HandshakeContext(ctx)
}
