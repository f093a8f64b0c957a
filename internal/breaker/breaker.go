// Package breaker knows when a server is down, so that callers fail at once instead of each waiting
// for a time-out.
//
//	         an attempt fails, or is slow           none has succeeded for After, and a trial fails
//	up ────────────────────────────────▶ doubted ──────────────────────────────────────────────▶ down
//	 ▲                                      │ an answer, to anybody                                │
//	 └──────────────────────────────────────┴──────────────── a trial is answered ─────────────────┘
//
// Any answer of the server, a refusal included ("wrong password", "too many connections"), shows
// that it is up. While it is down nothing dials but the trials of the breaker, at most ten in a
// second.
package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Verdict is what the error of an attempt to reach a server says about it.
type Verdict int

// Verdicts.
const (
	Answered Verdict = iota // the server runs: it has answered
	Refused                 // nothing listens there, or the server is starting or going away: worth asking again soon
	Silent                  // no answer in time, or no way there
	Unknown                 // nothing: the caller gave up, or the pool is closing
)

// Config is how a Breaker works. Its functions are called without a lock, from any goroutine.
type Config struct {
	// Life ends with the pool, and trials with it; nil: only Stop ends them.
	Life context.Context //nolint:containedctx // the pool's life belongs to no single call
	// After is how long no connection could be opened before a server counts as down. 0 or less
	// turns the breaker off.
	After func() time.Duration
	// Trial opens a connection of its own, logs in, asks for a sign of life and hangs up. It
	// returns when ctx ends.
	Trial func(ctx context.Context) error
	// Spread returns the least mean time between two trials of one instance. It keeps the trials of
	// all instances from overloading a server that comes back. It may be nil, or return 0: no bound.
	Spread func() time.Duration
	// TrialTimeout bounds one Trial: the pool's DialTimeout.
	TrialTimeout func() time.Duration
	// Judge says what an error of a dial or a Trial means. It is not asked about nil, which is an
	// answer.
	Judge func(error) Verdict
	// Alive reports whether a connection that is open already was answered since then. May be nil.
	Alive func(since monotime.Time) bool
	// Suspended reports whether the pool is paused: its server is not judged meanwhile. May be nil.
	Suspended func() bool
	// Error makes the error that callers get while the server is down.
	Error func(since time.Time, err error) *poolkeeper.DownError
	// WentDown is called when the server is known to be down: it wakes the callers that wait. It
	// must not block.
	WentDown func(*poolkeeper.DownError)
	// CameUp is called after WentDown, when the server has answered again, with how long it was
	// down.
	CameUp func(down time.Duration)
}

// Breaker is the state of one server. All methods are safe for concurrent use.
type Breaker struct {
	cfg  Config
	life context.Context                      //nolint:containedctx // of the pool
	down atomic.Pointer[poolkeeper.DownError] // nil: not down
	calm atomic.Bool                          // nothing has failed since the last answer

	mu      sync.Mutex      // guards the following
	doubts  *doubts         // nil: the server counts as up
	up      context.Context //nolint:containedctx // ends when the server goes down; nil: no caller has asked
	end     context.CancelCauseFunc
	stopped bool
	wg      sync.WaitGroup
}

// doubts are a time in which no connection could be opened.
type doubts struct {
	since  monotime.Time      // when the first attempt began that failed
	cancel context.CancelFunc // ends the doubts, and trials with them
	hurry  context.CancelFunc // ends the wait for a decision

	// guarded by the Breaker's mutex
	last    error // of the last attempt
	silent  bool  // that was silent
	tripped bool  // no decision is needed
	cleared bool  // an answer has ended the doubts
}

// New returns a Breaker of a server that counts as up. It starts nothing.
func New(cfg Config) *Breaker {
	b := &Breaker{cfg: cfg, life: cfg.Life}
	if b.life == nil {
		b.life = context.Background() //nolint:forbidigo // see Config
	}
	b.calm.Store(true)
	return b
}

// Down returns the error for callers if the server is known to be down, else nil. It costs an
// atomic load.
func (b *Breaker) Down() *poolkeeper.DownError { return b.down.Load() }

// Answer notes that the server has answered: a connection was opened, or one was refused by a
// server that runs. While all is well it costs an atomic load.
func (b *Breaker) Answer() {
	if b.calm.Load() {
		return
	}
	b.mu.Lock()
	d := b.doubts
	b.mu.Unlock()
	if d != nil {
		b.clear(d)
	}
}

// Failed notes that an attempt to open a connection, which began then, has failed.
func (b *Breaker) Failed(began monotime.Time, err error) {
	v := Answered
	if err != nil {
		v = b.cfg.Judge(err)
	}
	switch v {
	case Answered:
		b.Answer()
	case Refused, Silent:
		b.doubt(began, err, v, false)
	case Unknown:
	}
}

// Slow notes that an attempt to open a connection, which began then, has been under way for
// suspiciously long.
func (b *Breaker) Slow(began monotime.Time) {
	b.doubt(began, context.DeadlineExceeded, Silent, false)
}

// Trip notes that the server was looked for as the pool started, and was not there: it is down from
// now on.
func (b *Breaker) Trip(began monotime.Time, err error) {
	switch v := b.cfg.Judge(err); v {
	case Refused, Silent:
		b.doubt(began, err, v, true)
	case Answered, Unknown:
	}
}

// Bound returns a context that ends with ctx, and when the server goes down; then the
// *poolkeeper.DownError is its cause.
func (b *Breaker) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	b.mu.Lock()
	if b.up == nil {
		b.up, b.end = context.WithCancelCause(b.life)
		if d := b.down.Load(); d != nil {
			b.end(d)
		}
	}
	up := b.up
	b.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(up, func() { cancel(context.Cause(up)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Stop ends all trials, and waits for them until ctx ends. Afterwards the server counts as up, and
// nothing changes that.
func (b *Breaker) Stop(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = true
	if b.doubts != nil {
		b.doubts.cancel()
		b.doubts = nil
	}
	b.down.Store(nil)
	b.mu.Unlock()
	done := make(chan struct{})
	// Owner: Stop, or if that lost patience the trials, which end with their contexts.
	go func() {
		defer close(done)
		b.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// doubt begins to doubt the server, or notes one more failure.
func (b *Breaker) doubt(began monotime.Time, err error, v Verdict, trip bool) {
	after := b.cfg.After()
	if after <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	if d := b.doubts; d != nil {
		d.last, d.silent = err, v == Silent
		if trip {
			d.tripped = true
			d.hurry()
		}
		return
	}
	ctx, cancel := context.WithCancel(b.life)
	deciding, hurry := context.WithCancel(ctx)
	d := &doubts{since: began, cancel: cancel, hurry: hurry, last: err, silent: v == Silent, tripped: trip}
	b.doubts = d
	b.calm.Store(false)
	// Owner: the Breaker. It ends with the doubts; Stop waits for it.
	b.wg.Go(func() {
		defer cancel()
		if trip || b.decide(deciding, d, after) || b.isTripped(d) {
			b.fall(ctx, d)
		}
	})
}

func (b *Breaker) isTripped(d *doubts) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return d.tripped
}

// clear ends doubts, and an outage with them.
func (b *Breaker) clear(d *doubts) {
	b.mu.Lock()
	if b.doubts != d {
		b.mu.Unlock()
		return
	}
	b.doubts, d.cleared = nil, true
	b.calm.Store(true)
	if b.down.Swap(nil) != nil {
		b.up, b.end = nil, nil
	}
	d.cancel()
	b.mu.Unlock()
}

// answered reports whether err, of a trial, shows a server that is up, and notes why not.
func (b *Breaker) answered(d *doubts, err error) bool {
	v := Answered
	if err != nil {
		v = b.cfg.Judge(err)
	}
	if v == Answered {
		b.clear(d)
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v != Unknown {
		d.last, d.silent = err, v == Silent
	}
	return b.doubts != d
}

func (b *Breaker) try(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var err error
	if failed := guard.Call(func() { err = b.cfg.Trial(ctx) }); failed != nil {
		return failed
	}
	return err
}
