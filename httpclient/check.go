package httpclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// mostChecked bounds how much of a check's answer is read.
const mostChecked = 64 << 10

// Check requests CheckPath on a connection of its own, so that a full client is not taken for a dead
// server. Without CheckPath it opens a connection; without BaseURL it returns nil at once. It blocks
// for as long as dial, TLS handshake and header may take together, at most until ctx ends. It returns
// a [StatusError] for an answer that is not healthy.
func (c *Client) Check(ctx context.Context) error {
	began := monotime.Now()
	err := c.attempt(ctx)
	switch {
	case err == nil:
		c.breaker.Answer()
	case ctx.Err() == nil:
		c.breaker.Failed(began, err)
	}
	return err
}

// attempt is one check, bounded.
func (c *Client) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.config().patience())
	defer cancel()
	return c.ask(ctx, c.endpoint.Load())
}

// patience is how long a check may take.
func (c Config) patience() time.Duration { return c.DialTimeout + c.TLSTimeout + c.HeaderTimeout }

// ask asks the server of an endpoint for a sign of life.
func (c *Client) ask(ctx context.Context, e *endpoint) error {
	cfg := c.config()
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
		return &StatusError{Client: c.state.Name(), Status: s}
	}
	return readErr
}

// knock opens a connection to the server, or to the proxy before it, and closes it.
func (c *Client) knock(ctx context.Context, e *endpoint, req *http.Request) error {
	to, secure := req.URL, req.URL.Scheme == "https"
	proxy, err := c.config().Proxy(req)
	if err != nil {
		return err
	}
	if proxy != nil {
		to, secure = proxy, proxy.Scheme == "https"
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
