package httpclient

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// stage is where an exchange is.
type stage int64

const (
	stageAcquire stage = iota
	stageWrite         // it has a connection
	stageHeader        // the request is written
	stageBody          // the response's header is there
)

// exchange is one request and its response.
//
//	acquire ──GotConn──▶ write ──WroteRequest──▶ header ──RoundTrip returns──▶ body ──end of file, Close──▶ end
//
// A request without a body has no stage write. The cause of the exchange's context is errDone, errCut or
// the limit that has expired.
//
// All fields are one allocation, because each request pays for it.
type exchange struct {
	c      *Client
	to     *endpoint               // guarded by the client's mutex; the request's goroutine, the only writer, reads it without
	giveUp context.CancelCauseFunc // ends the attempt at that endpoint; guarded the same way
	cfg    *Config
	ctx    context.Context //nolint:containedctx // of this one request
	cancel context.CancelCauseFunc
	began  time.Time
	mono   monotime.Time // the same
	last   monotime.Time // when RequestTimeout is over; 0: it is off
	entry  holders.Entry
	trace  httptrace.ClientTrace
	resp   upgraded // what the caller reads

	now     atomic.Int64            // the stage and its limit: see moment
	expired atomic.Pointer[reached] // nil: no limit has expired
	conn    atomic.Pointer[conn]    // the connection in use; nil: none yet
	waiting atomic.Bool             // counted in metrics.waiting
	over    atomic.Bool

	prev, next *exchange // in Client.inFlight; guarded by the client's mutex
}

// begin begins an exchange: the gate has been entered.
func (c *Client) begin(r *http.Request, to *endpoint) *exchange {
	cfg := to.cfg
	x := &exchange{c: c, to: to, cfg: cfg, began: time.Now()}
	x.mono = monotime.Of(x.began)
	ctx, cancel := context.WithCancelCause(r.Context())
	x.cancel, x.giveUp = cancel, cancel
	x.trace.GotConn = x.gotConn
	if r.Body != nil && r.Body != http.NoBody {
		x.trace.WroteRequest = x.wroteRequest
	}
	x.ctx = httptrace.WithClientTrace(ctx, &x.trace)
	x.waiting.Store(true) // see host.queue
	if cfg.RequestTimeout > 0 {
		x.last = x.mono.Add(cfg.RequestTimeout)
	}
	c.held.HoldAt(&x.entry, poolkeeper.KindRequest, x.began)
	if cut := c.link(x); cut {
		cancel(errCut)
	}
	x.reach(stageAcquire, x.mono, cfg.AcquireTimeout)
	c.limits.arm(x.last)
	return x
}

// atOnce is how long it may take to get a connection that is open and idle. The transport does not say
// whether a request has queued.
const atOnce = time.Millisecond

// gotConn is called when a connection was found or opened.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	now := monotime.Now()
	if x.trace.WroteRequest == nil {
		x.reach(stageHeader, now, x.cfg.HeaderTimeout)
	} else {
		x.reach(stageWrite, now, 0)
	}
	own, met := connOf(info.Conn), &x.to.host.met
	waited := x.waiting.CompareAndSwap(true, false)
	if waited {
		met.waiting.Add(-1)
	}
	if own != nil {
		if old := x.conn.Swap(own); old != nil { // the transport tries again on another
			old.release()
		}
		own.acquire()
	}
	if !waited {
		return
	}
	met.acquired.Add(1)
	if info.Reused {
		met.reused.Add(1)
	} else {
		x.c.warnOfExpiries()
	}
	took := now.Sub(x.mono)
	met.wait.Record(took)
	if !info.Reused || took >= atOnce {
		met.waits.Add(1)
		met.waited.Add(int64(took))
	}
}

// wroteRequest is called when the request is written, or cannot be.
func (x *exchange) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err == nil {
		x.reach(stageHeader, monotime.Now(), x.cfg.HeaderTimeout)
	}
}

// answered takes note of the response's header.
func (x *exchange) answered(status int) {
	x.grade(status >= http.StatusInternalServerError)
	x.reach(stageBody, 0, 0)
	x.to.host.breaker.Answer()
	x.c.observer.Succeeded()
}

// end ends the exchange, once. well says that its connection can be used again.
func (x *exchange) end(well bool) {
	if x.over.Swap(true) {
		return
	}
	c, h := x.c, x.to.host
	if x.waiting.CompareAndSwap(true, false) {
		h.met.waiting.Add(-1)
	}
	if used := x.conn.Swap(nil); used != nil {
		used.release()
	}
	if held, ok := c.held.Release(&x.entry); ok && well {
		h.met.use.Record(held)
	}
	c.unlink(x)
	x.cancel(errDone)
	if x.to.replaced.Load() {
		x.to.native.CloseIdleConnections()
	}
	c.gate.Leave()
}
