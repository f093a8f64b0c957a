package httpclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/expiry"
)

// endpoint holds the native transport to a host. Reset, Reload and renewed files replace it as a whole.
// Requests in flight keep the endpoint on which they began.
type endpoint struct {
	target

	host     *host
	cfg      *Config // with defaults
	native   *http.Transport
	book     *expiry.Book // of its certificates
	replaced atomic.Bool
}

// newEndpoint returns the endpoint of a configuration with defaults.
func (h *host) newEndpoint(cfg *Config, t target) *endpoint {
	e := &endpoint{target: t, host: h, cfg: cfg}
	secure := t.disk.TLS(cfg.TLS)
	if secure != nil {
		secure = secure.Clone() // the transport adds its protocols
	} else {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	e.book = expiry.New(secure, t.disk.Authorities())
	h.c.watchHandshakes(secure, e.book)
	e.native = &http.Transport{
		Proxy: cfg.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return h.c.dial(ctx, e, network, addr)
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

// switchTo makes e the endpoint of its host.
func (e *endpoint) switchTo() {
	if old := e.host.endpoint.Swap(e); old != nil {
		old.retire()
	}
}

// retire ends the use of an endpoint: its idle connections are closed, and those in use when they
// come back.
func (e *endpoint) retire() {
	e.replaced.Store(true)
	e.native.CloseIdleConnections()
}
