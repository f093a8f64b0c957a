package httpclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// endpoint is where requests go: one native transport, replaced as a whole by Reset, Reload and
// renewed files. Requests in flight stay with the one they began on.
type endpoint struct {
	target

	native   *http.Transport
	replaced atomic.Bool
}

// newEndpoint returns the endpoint of a configuration with defaults.
func (c *Client) newEndpoint(cfg *Config, t target) *endpoint {
	e := &endpoint{target: t}
	secure := t.disk.TLS(cfg.TLS)
	if secure != nil {
		secure = secure.Clone() // the transport adds its protocols
	} else {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	e.native = &http.Transport{
		Proxy: cfg.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.dial(ctx, e, network, addr)
		},
		TLSClientConfig:     secure,
		TLSHandshakeTimeout: cfg.TLSTimeout,
		ForceAttemptHTTP2:   true,
		MaxConnsPerHost:     cfg.MaxOpen,
		MaxIdleConnsPerHost: cfg.MaxIdle,
		IdleConnTimeout:     cfg.MaxIdleTime,
		// As in http.DefaultTransport: how long a request that expects "100 Continue" waits for it.
		ExpectContinueTimeout: time.Second,
	}
	return e
}

// retire ends the use of an endpoint: its idle connections are closed, and those in use when they
// come back.
func (e *endpoint) retire() {
	e.replaced.Store(true)
	e.native.CloseIdleConnections()
}
