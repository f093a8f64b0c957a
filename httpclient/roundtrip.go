package httpclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// transport is the http.RoundTripper of a Client.
type transport struct{ c *Client }

// RoundTrip sends one request, within the limits of the client. It implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.c
	resp, err := c.roundTrip(r)
	if err != nil && r.Body != nil {
		_ = r.Body.Close() // as http.RoundTripper demands; closing twice is legal
	}
	return resp, err
}

// CloseIdleConnections closes idle connections, for http.Client.CloseIdleConnections.
func (t transport) CloseIdleConnections() { t.c.endpoint.Load().native.CloseIdleConnections() }

func (c *Client) roundTrip(r *http.Request) (*http.Response, error) {
	if !c.gate.Enter() {
		return nil, c.refusal()
	}
	to := c.endpoint.Load()
	if err := c.admit(r, to); err != nil {
		c.gate.Leave()
		return nil, err
	}
	x := c.begin(r, c.config())
	out := r.WithContext(x.ctx) //nolint:contextcheck // it is made of the request's
	if err := c.authorize(&out, x); err != nil {
		x.end(false)
		return nil, err
	}
	resp, err := to.native.RoundTrip(out)
	if err != nil {
		err = x.failed(r.Context(), err)
		x.end(false)
		return nil, err
	}
	x.answered()
	resp.Body = x.body(resp)
	return resp, nil
}

// admit refuses a request that must not be sent.
func (c *Client) admit(r *http.Request, to *endpoint) error {
	if err := to.pinned(r.URL); err != nil {
		err.Client = c.state.Name()
		return err
	}
	if down := c.breaker.Down(); down != nil {
		c.met.refused.Add(1)
		return down
	}
	return c.queue()
}

// queue counts a request as waiting for a connection, unless too many are.
func (c *Client) queue() error {
	cfg, n := c.config(), c.met.waiting.Add(1)
	if cfg.MaxWaiting == 0 || int(n+c.conns.inUse.Load()) <= cfg.MaxOpen+max(cfg.MaxWaiting, 0) {
		return nil
	}
	err := c.tooManyWaiting(cfg.MaxWaiting)
	c.met.waiting.Add(-1)
	return err
}

// pinned refuses a request that leaves the server of BaseURL.
func (e *endpoint) pinned(u *url.URL) *HostError {
	if e.base == nil || strings.EqualFold(u.Host, e.base.Host) && u.Scheme == e.base.Scheme {
		return nil
	}
	return &HostError{Host: u.Host, Allowed: e.base.Scheme + "://" + e.base.Host}
}

// authorize calls Authorize with a copy of the request that has headers of its own.
func (c *Client) authorize(r **http.Request, x *exchange) error {
	f := c.config().Authorize
	if f == nil {
		return nil
	}
	own := (*r).Clone(x.ctx)
	var err error
	if caught := guard.Catch(func() { err = f(own) }); caught != nil {
		return c.events.Panicked("Authorize", caught)
	}
	*r = own
	return err
}

// tlsTimeout is the text of the transport's error when TLSHandshakeTimeout is over; its type is not
// exported.
const tlsTimeout = "net/http: TLS handshake timeout"

// failed says why a request got no response.
func (x *exchange) failed(caller context.Context, err error) error {
	c := x.c
	waited := time.Since(x.began)
	cause := context.Cause(x.ctx) //nolint:contextcheck // it is made of the caller's
	switch {
	case errors.Is(cause, errCut):
		return errCut
	case caller.Err() != nil:
		if x.at() < stageWrite { // it waited for a connection
			c.met.acquireTimeouts.Add(1)
			return c.acquireError(waited, acquire.GaveUp(caller))
		}
		return err
	case x.expired.Load() != nil:
		return x.tooLate(waited, err)
	}
	if down, ok := errors.AsType[*poolkeeper.DownError](cause); ok { // it waited for a connection
		c.met.refused.Add(1)
		return down
	}
	if strings.HasSuffix(err.Error(), tlsTimeout) { // that of a proxy has a prefix
		err = &TimeoutError{Client: c.state.Name(), Stage: StageTLS, Limit: x.cfg.TLSTimeout, Err: err}
	}
	c.noteFailure(x, err)
	return err
}

// tooLate says which limit of the client ended the request.
func (x *exchange) tooLate(waited time.Duration, err error) error {
	c, e := x.c, x.expired.Load()
	if e.stage == "" {
		c.met.acquireTimeouts.Add(1)
		err = c.acquireError(waited, acquire.TimedOut(e.limit, nil))
	} else {
		err = &TimeoutError{Client: c.state.Name(), Stage: e.stage, Limit: e.limit, Err: err}
	}
	c.noteFailure(x, err)
	return err
}

// noteFailure tells the breaker and the observer of a request that got no response.
func (c *Client) noteFailure(x *exchange, err error) {
	c.observer.Observe(err)
	c.breaker.Failed(x.mono, err)
}

// isTimeout reports whether err is a time-out.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
