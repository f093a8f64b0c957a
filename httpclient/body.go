package httpclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// body is the body of a response. The exchange ends with it.
type body struct {
	io.ReadCloser

	x    *exchange
	left int64 // bytes that are to come; -1: not known
}

// upgraded is the body of a response of status 101: the connection itself.
type upgraded struct {
	body

	io.Writer
}

// body returns the body that the caller gets in place of the response's own.
func (x *exchange) body(resp *http.Response) io.ReadCloser {
	if resp.Body == http.NoBody {
		x.end(true)
		return resp.Body
	}
	x.resp.body = body{ReadCloser: resp.Body, x: x, left: resp.ContentLength}
	if w, ok := resp.Body.(io.Writer); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		x.resp.Writer = w
		return &x.resp
	}
	return &x.resp.body
}

// Read reads on, within BodyTimeout.
func (b *body) Read(p []byte) (int, error) {
	x := b.x
	limited := x.cfg.BodyTimeout > 0
	if limited {
		x.reach(stageBody, monotime.Now(), x.cfg.BodyTimeout)
	}
	n, err := b.ReadCloser.Read(p)
	if limited {
		x.reach(stageBody, 0, 0)
	}
	if b.left >= 0 {
		b.left -= int64(n)
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.left = 0
		x.end(true)
	default:
		err = x.bodyError(err)
	}
	return n, err
}

// bodyError says which limit ended a read, or that the client was stopped.
func (x *exchange) bodyError(err error) error {
	cause := context.Cause(x.ctx)
	e := x.expired.Load()
	switch {
	case errors.Is(cause, errCut):
		err = errCut
	case e != nil:
		err = &TimeoutError{Client: x.to.host.name(), Stage: e.stage, Limit: e.limit, Err: err}
		x.grade(true)
		x.c.observer.Observe(err)
	case cause == nil:
		x.grade(true)
		x.c.observer.Observe(err)
	}
	x.end(false)
	return err
}

// Close ends the exchange. A body that was not read to its end costs HTTP/1.1 its connection: the
// caller is named.
func (b *body) Close() error {
	early := b.left != 0 && b.x.ctx.Err() == nil
	err := b.ReadCloser.Close()
	if early {
		b.x.c.noteUnread(b.x)
	}
	b.x.end(!early)
	return err
}

// noteUnread reports a body that was closed before its end.
func (c *Client) noteUnread(x *exchange) {
	used := x.conn.Load()
	if used == nil || used.shared.Load() { // HTTP/2 resets the stream and keeps the connection
		return
	}
	x.to.host.met.unread.Add(1)
	if h, ok := c.held.Holder(&x.entry); ok {
		c.events.Emit(event.OfUnread(h, time.Now()))
	}
}
