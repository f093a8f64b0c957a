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
	"github.com/poolkeeper/poolkeeper/internal/breaker"
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
func (t transport) CloseIdleConnections() {
	for _, h := range t.c.rotation.Load().all {
		h.endpoint.Load().native.CloseIdleConnections()
	}
}

func (c *Client) roundTrip(r *http.Request) (*http.Response, error) {
	if !c.gate.Enter() {
		return nil, c.refusal()
	}
	to, err := c.admit(r)
	if err != nil {
		c.gate.Leave()
		return nil, err
	}
	x := c.begin(r, to)
	out := r.WithContext(x.ctx) //nolint:contextcheck // it is made of the request's
	if err = c.authorize(&out, x); err != nil {
		x.end(false)
		return nil, err
	}
	resp, err := x.send(out)
	if err != nil {
		err = x.failed(r.Context(), err)
		x.end(false)
		return nil, err
	}
	x.answered(resp.StatusCode)
	resp.Body = x.body(resp)
	return resp, nil
}

// admit returns the host for a request, or the error of a request that must not be sent. It counts the
// request as waiting at the host.
func (c *Client) admit(r *http.Request) (*endpoint, error) {
	h, err := c.pick(nil)
	if err != nil {
		return nil, err
	}
	to := h.endpoint.Load()
	if err := to.pinned(r.URL); err != nil {
		h.met.waiting.Add(-1)
		err.Client = c.state.Name()
		return nil, err
	}
	return to, nil
}

// send sends a request to a host. If no connection to the host could be opened, nothing was sent, and
// the request goes to the next host.
func (x *exchange) send(out *http.Request) (*http.Response, error) {
	if x.to.host.addr == "" {
		return x.to.native.RoundTrip(out)
	}
	for tried := []*host(nil); ; {
		ctx, giveUp := context.WithCancelCause(x.ctx)
		x.c.mu.Lock()
		x.giveUp = giveUp
		x.c.mu.Unlock()
		resp, err := x.to.native.RoundTrip(out.WithContext(ctx))
		if err == nil {
			return resp, nil // the end of the exchange ends ctx
		}
		down, _ := errors.AsType[*poolkeeper.DownError](context.Cause(ctx))
		giveUp(errDone)
		tried = append(tried, x.to.host)
		if out = x.again(out, err, down, tried); out == nil {
			if down != nil {
				err = down
			}
			return nil, err
		}
	}
}

// again chooses the next host and returns a request for it, or nil if there is no other attempt. The
// transport has closed the body of the first request.
func (x *exchange) again(first *http.Request, err error, down *poolkeeper.DownError, tried []*host) *http.Request {
	c, was := x.c, x.to.host
	if x.at() >= stageWrite || x.ctx.Err() != nil || down == nil && judge(err) == breaker.Unknown {
		return nil
	}
	withBody := first.Body != nil && first.Body != http.NoBody
	if withBody && first.GetBody == nil {
		return nil
	}
	next, _ := c.pick(tried)
	if next == nil {
		return nil
	}
	to, out := next.endpoint.Load(), first
	if withBody {
		body, cannot := first.GetBody()
		if cannot != nil {
			next.met.waiting.Add(-1)
			return nil
		}
		out = first.WithContext(x.ctx)
		out.Body = body
	}
	if down == nil {
		x.grade(true)
		was.breaker.Failed(x.mono, err)
	}
	was.met.waiting.Add(-1)
	c.mu.Lock()
	x.to = to
	c.mu.Unlock()
	return out
}

// pinned refuses a request that leaves the server of BaseURL.
func (e *endpoint) pinned(u *url.URL) *HostError {
	if e.base == nil || strings.EqualFold(u.Host, e.base.Host) && u.Scheme == e.base.Scheme {
		return nil
	}
	return &HostError{Host: u.Host, Allowed: e.base.Scheme + "://" + e.base.Host}
}

// tlsTimeout is the text of the transport's error when TLSHandshakeTimeout is over; its type is not
// exported.
const tlsTimeout = "net/http: TLS handshake timeout"

// authorize calls Authorize with a copy of the request that has headers of its own. A server that was
// reached by a redirect from another gets nothing from Authorize.
func (c *Client) authorize(r **http.Request, x *exchange) error {
	f := x.cfg.Authorize
	if f == nil || strayed(*r) {
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

// strayed reports whether a redirect on the way to r led to another server, or from https to http. As
// in net/http, a redirect back does not undo it.
func strayed(r *http.Request) bool {
	for hop := r; hop.Response != nil; hop = hop.Response.Request {
		if hop.Response.Request == nil {
			return true // a RoundTripper of Wrap left it out
		}
		from, to := hop.Response.Request.URL, hop.URL
		upgraded := from.Scheme == "http" && to.Scheme == "https" && strings.EqualFold(from.Hostname(), to.Hostname())
		if !upgraded && (from.Scheme != to.Scheme || !strings.EqualFold(from.Host, to.Host)) {
			return true
		}
	}
	return false
}

// failed says why a request got no response.
func (x *exchange) failed(caller context.Context, err error) error {
	h := x.to.host
	waited := time.Since(x.began)
	cause := context.Cause(x.ctx) //nolint:contextcheck // it is made of the caller's
	switch {
	case errors.Is(cause, errCut):
		return errCut
	case caller.Err() != nil:
		if x.at() < stageWrite { // it waited for a connection
			h.met.acquireTimeouts.Add(1)
			return h.acquireError(waited, acquire.GaveUp(caller))
		}
		return err
	case x.expired.Load() != nil:
		return x.tooLate(waited, err)
	}
	for _, err := range []error{cause, err} {
		if down, ok := errors.AsType[*poolkeeper.DownError](err); ok { // it waited for a connection
			h.met.refused.Add(1)
			return down
		}
	}
	if strings.HasSuffix(err.Error(), tlsTimeout) { // that of a proxy has a prefix
		err = &TimeoutError{Client: h.name(), Stage: StageTLS, Limit: x.cfg.TLSTimeout, Err: err}
	}
	x.noteFailure(err)
	return err
}

// tooLate says which limit of the client ended the request.
func (x *exchange) tooLate(waited time.Duration, err error) error {
	h, e := x.to.host, x.expired.Load()
	if e.stage == "" {
		h.met.acquireTimeouts.Add(1)
		err = h.acquireError(waited, acquire.TimedOut(e.limit, nil))
	} else {
		err = &TimeoutError{Client: h.name(), Stage: e.stage, Limit: e.limit, Err: err}
	}
	x.noteFailure(err)
	return err
}

// noteFailure tells the breaker and the observer of a request that got no response.
func (x *exchange) noteFailure(err error) {
	x.grade(judge(err) != breaker.Unknown)
	x.c.observer.Observe(err)
	x.to.host.breaker.Failed(x.mono, err)
}

// isTimeout reports whether err is a time-out.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
