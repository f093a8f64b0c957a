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

	mu    sync.Mutex    // guards the following
	stage stage         // only grows
	until monotime.Time // when the limit of the stage is over; 0: it has none
	last  monotime.Time // when RequestTimeout is over; 0: it is off
	timer *time.Timer   // calls look at due or before; nil: there was no limit yet
	due   monotime.Time // when timer is set to; 0: it is not set

	prev, next *exchange // in Client.inFlight; guarded by the client's mutex
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
		TLSHandshakeStart: x.shakesHands,
	}
	x.ctx = httptrace.WithClientTrace(ctx, &x.trace)
	x.waiting.Store(true) // see queue
	if cfg.RequestTimeout > 0 {
		x.last = x.mono.Add(cfg.RequestTimeout)
	}
	x.reach(stageAcquire, cfg.AcquireTimeout)
	c.held.HoldAt(&x.entry, poolkeeper.KindRequest, x.began)
	if cut := c.link(x); cut {
		x.cancel(errCut)
	}
	return x
}

// reach moves the exchange to a stage, unless it is beyond it, and sets the limit: 0 for none. The
// timer is set anew only if it would come too late: most stages are over long before their limits.
func (x *exchange) reach(to stage, limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage > to {
		return
	}
	x.stage, x.until = to, 0
	if limit > 0 {
		x.until = monotime.Now().Add(limit)
	}
	x.armLocked()
}

// armLocked sets the timer to the next limit, unless it is set to a time before.
func (x *exchange) armLocked() {
	at := x.until
	if x.last != 0 && (at == 0 || x.last < at) {
		at = x.last
	}
	if at == 0 || x.due != 0 && x.due <= at {
		return
	}
	x.due = at
	if wait := at.Sub(monotime.Now()); x.timer == nil {
		x.timer = time.AfterFunc(wait, x.look)
	} else {
		x.timer.Reset(wait)
	}
}

// at returns where the exchange is.
func (x *exchange) at() stage {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stage
}

// shakesHands notes that the transport opens a connection for the exchange, and has begun TLS. The
// limit of the wait stays.
func (x *exchange) shakesHands() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stage = max(x.stage, stageTLS)
}

// atOnce is how long it may take to get a connection that is open and idle. The transport does not say
// whether a request has queued.
const atOnce = time.Millisecond

// gotConn is called when a connection was found or opened.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	x.reach(stageWrite, 0)
	own, met := connOf(info.Conn), &x.c.met
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
	}
	took := time.Since(x.began)
	met.wait.Record(took)
	if !info.Reused || took >= atOnce {
		met.waits.Add(1)
		met.waited.Add(int64(took))
	}
}

// wroteRequest is called when the request is written, or cannot be.
func (x *exchange) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err != nil {
		return
	}
	x.reach(stageHeader, x.cfg.HeaderTimeout)
}

// look is the function of the timer: it ends the exchange if a limit is over, and waits for the next
// one otherwise.
func (x *exchange) look() {
	x.mu.Lock()
	now := monotime.Now()
	var e expiry
	switch {
	case x.last != 0 && now >= x.last:
		e = expiry{StageRequest, x.cfg.RequestTimeout}
	case x.until == 0 || now < x.until: // the stage has ended meanwhile
		x.due = 0
		x.armLocked()
		x.mu.Unlock()
		return
	case x.stage <= stageTLS:
		e = expiry{"", x.cfg.AcquireTimeout}
	case x.stage == stageHeader:
		e = expiry{StageHeader, x.cfg.HeaderTimeout}
	case x.stage == stageBody:
		e = expiry{StageBody, x.cfg.BodyTimeout}
	}
	x.mu.Unlock()
	if x.expired.CompareAndSwap(nil, &e) {
		x.cancel(&TimeoutError{Client: x.c.state.Name(), Stage: e.stage, Limit: e.limit})
	}
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
		x.stopTimer()
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
		c.unlink(x)
		x.cancel(errDone)
		c.gate.Leave()
	})
}

func (x *exchange) stopTimer() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.until, x.last = 0, 0
	if x.timer != nil {
		x.timer.Stop()
	}
}
