package httpclient

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// stage is where an exchange is.
type stage int

const (
	stageAcquire stage = iota
	stageDial
	stageTLS
	stageWrite  // it has a connection
	stageHeader // the request is written
	stageBody   // the response's header is there
)

// exchange is one request and its response.
//
//	acquire ──GotConn──▶ write ──WroteRequest──▶ header ──RoundTrip returns──▶ body ──end of file, Close──▶ end
//
// Its context ends with one of the causes errDone, errCut, or the limit that has expired.
type exchange struct {
	c      *Client
	cfg    *Config
	ctx    context.Context //nolint:containedctx // of this one request
	cancel context.CancelCauseFunc
	began  time.Time
	mono   monotime.Time // the same
	entry  holders.Entry
	trace  httptrace.ClientTrace

	expired atomic.Pointer[expiry] // nil: no limit was reached
	conn    atomic.Pointer[conn]   // it uses; nil: none yet
	waiting atomic.Bool            // counted in metrics.waiting
	over    sync.Once
	whole   *time.Timer // of the request; nil: it has no limit

	mu    sync.Mutex    // guards the following
	stage stage         // only grows
	until monotime.Time // when the limit of the stage is over; 0: it has none
	limit *time.Timer   // calls limitReached, not before until; nil: none was needed yet
}

// expiry is a limit that was reached. An empty stage is the wait for a connection.
type expiry struct {
	stage Stage
	limit time.Duration
}

// begin begins an exchange: the gate has been entered.
func (c *Client) begin(ctx context.Context, cfg *Config) *exchange {
	x := &exchange{c: c, cfg: cfg, began: time.Now()}
	x.mono = monotime.Of(x.began)
	ctx, x.cancel = context.WithCancelCause(ctx)
	x.trace = httptrace.ClientTrace{
		GotConn: x.gotConn, WroteRequest: x.wroteRequest,
		ConnectStart:      func(string, string) { x.dials(stageDial) },
		TLSHandshakeStart: func() { x.dials(stageTLS) },
	}
	x.ctx = httptrace.WithClientTrace(ctx, &x.trace)
	x.waiting.Store(true)
	c.met.waiting.Add(1)
	x.reach(stageAcquire, cfg.AcquireTimeout)
	if cfg.RequestTimeout > 0 {
		x.whole = time.AfterFunc(cfg.RequestTimeout, func() { x.expire(expiry{StageRequest, cfg.RequestTimeout}) })
	}
	c.held.HoldAt(&x.entry, poolkeeper.KindRequest, x.began)
	c.mu.Lock()
	c.inFlight[x] = struct{}{}
	cut := c.cut
	c.mu.Unlock()
	if cut {
		x.cancel(errCut)
	}
	return x
}

// reach moves the exchange to a stage, unless it is beyond it, and sets the limit: 0 for none.
func (x *exchange) reach(to stage, limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage > to {
		return
	}
	x.stage, x.until = to, 0
	switch {
	case limit <= 0:
		return // a timer that is set already finds that there is no limit
	case x.limit == nil:
		x.limit = time.AfterFunc(limit, x.limitReached)
	default:
		x.limit.Reset(limit)
	}
	x.until = monotime.Now().Add(limit)
}

// at returns where the exchange is.
func (x *exchange) at() stage {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stage
}

// dials notes that the transport opens a connection for the exchange. The limit of the wait stays.
func (x *exchange) dials(to stage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stage = max(x.stage, to)
}

// gotConn is called when a connection was found or opened.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	x.reach(stageWrite, 0)
	own := connOf(info.Conn)
	if own != nil {
		if old := x.conn.Swap(own); old != nil { // the transport tries again on another
			old.release()
		}
		own.acquire()
	}
	if !x.waiting.CompareAndSwap(true, false) {
		return
	}
	met := &x.c.met
	met.waiting.Add(-1)
	met.acquired.Add(1)
	if info.Reused {
		met.reused.Add(1)
	}
	if atOnce := info.WasIdle || own != nil && own.shared.Load(); !atOnce {
		met.wait.Record(time.Since(x.began))
	}
}

// wroteRequest is called when the request is written, or cannot be.
func (x *exchange) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err != nil {
		return
	}
	x.reach(stageHeader, x.cfg.HeaderTimeout)
}

// limitReached is the function of the stage's timer.
func (x *exchange) limitReached() {
	x.mu.Lock()
	at, over := x.stage, x.until != 0 && monotime.Now() >= x.until
	x.mu.Unlock()
	switch {
	case !over: // the stage has ended meanwhile
	case at <= stageTLS:
		x.expire(expiry{"", x.cfg.AcquireTimeout})
	case at == stageHeader:
		x.expire(expiry{StageHeader, x.cfg.HeaderTimeout})
	case at == stageBody:
		x.expire(expiry{StageBody, x.cfg.BodyTimeout})
	}
}

// expire ends the exchange because a limit is reached.
func (x *exchange) expire(e expiry) {
	if x.expired.CompareAndSwap(nil, &e) {
		x.cancel(&TimeoutError{Client: x.c.state.Name(), Stage: e.stage, Limit: e.limit})
	}
}

// stageOfDial returns what a time-out of the transport itself was in.
func (x *exchange) stageOfDial() (Stage, time.Duration) {
	switch x.at() { //nolint:exhaustive // the others have limits of ours
	case stageDial:
		return StageDial, x.cfg.DialTimeout
	case stageTLS:
		return StageTLS, x.cfg.TLSTimeout
	}
	return "", 0
}

// answered takes note of the response's header.
func (x *exchange) answered() {
	x.reach(stageBody, 0)
	x.c.breaker.Answer()
	x.c.observer.Succeeded()
}

// end ends the exchange, once. well says that its connection can be used again.
func (x *exchange) end(well bool) {
	x.over.Do(func() {
		x.stopLimit()
		if x.whole != nil {
			x.whole.Stop()
		}
		c := x.c
		if x.waiting.CompareAndSwap(true, false) {
			c.met.waiting.Add(-1)
		}
		if used := x.conn.Swap(nil); used != nil {
			used.release()
		}
		if held, ok := c.held.Release(&x.entry); ok && well {
			c.met.use.Record(held)
		}
		c.mu.Lock()
		delete(c.inFlight, x)
		c.mu.Unlock()
		x.cancel(errDone)
		c.gate.Leave()
	})
}

func (x *exchange) stopLimit() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.limit != nil {
		x.limit.Stop()
	}
}
