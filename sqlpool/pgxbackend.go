package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// pgxBackend works on a *pgxpool.Pool from its hooks. Callers pass through permits: the pool's own
// queue, first in, first out, before pgxpool's.
//
//	Acquire ─ TraceAcquireStart ─▶ permit ─▶ pgxpool ─ prepareConn ─ TraceAcquireEnd ─▶ in use ─ TraceRelease ─▶ idle
//	              └ ErrDraining, AcquireError                                              Hijack: see reconcile
type pgxBackend struct {
	base     *base
	pool     *pgxpool.Pool // set before the backend is used
	target   atomic.Pointer[pgxTarget]
	probe    *checkconn.Conn[*pgx.Conn]
	life     context.Context //nolint:containedctx // ends at close; bounds cancel requests
	end      context.CancelFunc
	pending  inflight.Group // goroutines that wait for a connection to be closed, or end the pool's own work
	closing  life.Closer
	flushing atomic.Bool
	after    bool        // the user had an AfterRelease when the pool was made; does not change
	pooled   atomic.Bool // a pooler was found at the last look at the server's limits

	mu        sync.Mutex // guards the following and the times of every record; no I/O and no call of pgxpool under it
	max       int
	permits   int        // given out: holding a connection, acquiring one, or waiting for one to be closed
	holding   int        // of permits, with a connection
	open      int        // connections that are established and not being closed
	dials     int        // being opened
	slow      int        // of dials, those that are slow
	left      []*dialing // of those, the ones whose callers have gone, the eldest first
	peak      int
	paused    int // sweeps that hold the idle connections for a moment
	waiting   queue.Queue[*native]
	reusable  []*acquisition // to be used again
	waits     map[*waitingContext]struct{}
	all       map[*pgxConn]struct{}
	events    uint64      // acquisitions and releases so far, for reconcile
	hijacked  hijacks     // connections that have left the pool
	lost      int         // reclaimed, and not yet released: they take a place in pgxpool
	pings     int         // that pgxpool has under way for callers that gave up: they have permits
	later     *time.Timer // of the next reconcile while a caller waits
	dialLater *time.Timer // of dials that wait for credit; nil: none has waited
	held      bool        // paused by Pause
	closed    bool
}

// cancelLimit bounds how pgconn asks the server to cancel a query that its caller has given up, if
// CloseGrace is off.
const cancelLimit = time.Second

// check dials and pings outside the pool.
func (b *pgxBackend) check(ctx context.Context) error {
	return b.probe.Check(context.WithValue(ctx, evenIfDown{}, true))
}

func (b *pgxBackend) dialCheck(ctx context.Context) (*pgx.Conn, error) {
	return checkDial(ctx, b.base, func(ctx context.Context) (*pgx.Conn, error) {
		return b.dialOutside(ctx, b.target.Load(), b.base.cfg())
	})
}

func (b *pgxBackend) ask(ctx context.Context, c *pgx.Conn) error {
	asked := time.Now()
	err := b.base.answered(pgxProbe(ctx, c, b.base.cfg().CheckQuery))
	if err == nil {
		b.base.link.Saw(time.Since(asked))
	}
	return err
}

func pgxProbe(ctx context.Context, c *pgx.Conn, query string) error {
	if query != "" {
		_, err := c.Exec(ctx, query)
		return err
	}
	return c.Ping(ctx)
}

func (b *pgxBackend) stats(out *poolkeeper.Stats) {
	b.reconcile()
	st := b.pool.Stat()
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Max, out.Waiting, out.Dialing = b.max, b.waiting.Len(), b.dials
	out.InUse, out.Idle = max(int(st.AcquiredConns())-b.lost, 0), int(st.IdleConns())
	out.Open = out.InUse + out.Idle
}

func (b *pgxBackend) load() load {
	var s poolkeeper.Stats
	b.stats(&s)
	b.mu.Lock()
	defer b.mu.Unlock()
	return load{max: s.Max, inUse: s.InUse, waiting: s.Waiting, dialing: b.dials, reclaimed: b.max - b.roomLocked()}
}

// settle waits until pgxpool agrees that nothing is acquired: all-idle acquisitions pass the gate
// by, and hijacked connections never come back to it.
func (b *pgxBackend) settle(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		b.reconcile()
		acquired := int(b.pool.Stat().AcquiredConns()) - b.neverReturned()
		if b.base.gate.InFlight() == 0 && acquired == 0 {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%d still in flight: %w", max(b.base.gate.InFlight(), acquired), context.Cause(ctx))
		}
	}
}

// close closes the pool once. For a connection that is never released, pgxpool's Close never
// returns, and the goroutine that called it stays.
func (b *pgxBackend) close(ctx context.Context) error {
	b.end()
	b.refuseWaiting()
	if n := b.neverReturned(); n > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cutGrace) // pgxpool's Close waits for them for ever
		defer cancel()
	}
	err := b.closing.Do(ctx, func() error { b.pool.Close(); return nil })
	if n := b.neverReturned(); n > 0 && err != nil {
		err = fmt.Errorf("%s taken away by ReclaimAfter and never released, for which pgxpool waits for ever",
			plural.Of(n, "connection"))
	}
	return errors.Join(err, stillUnderWay(b.pending.Wait(ctx)), b.probe.Close(ctx))
}

// noticeClosed ends the pool's own work after a caller has closed the *pgxpool.Pool. pgxpool does
// not report that, so the pool notices it at the next acquisition.
func (b *pgxBackend) noticeClosed(ctx context.Context) {
	if b.base.state.At() >= life.Stopping {
		return
	}
	// Owner: the backend. It is bounded by hangUpLimit; close waits for it.
	b.pending.Go(func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpLimit)
		defer cancel()
		_ = b.base.handleClosed(bounded) // Stop reports what is left
		_ = b.probe.Close(bounded)
	})
}

func (b *pgxBackend) neverReturned() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

func (b *pgxBackend) refuseWaiting() {
	b.mu.Lock()
	b.closed = true
	for _, t := range []*time.Timer{b.later, b.dialLater} {
		if t != nil {
			t.Stop()
		}
	}
	var refused []*waiter
	for w := b.waiting.Pop(); w != nil; w = b.waiting.Pop() {
		refused = append(refused, w)
	}
	b.mu.Unlock()
	for _, w := range refused {
		w.Refuse(fmt.Errorf("sqlpool: acquire from %q: %w", b.base.poolName(), poolkeeper.ErrClosed))
	}
}

func (b *pgxBackend) cut(idleToo bool) (cut, left int) {
	b.mu.Lock()
	all := make([]*pgxConn, 0, len(b.all))
	for r := range b.all {
		all = append(all, r)
	}
	b.mu.Unlock()
	for _, r := range all {
		if !idleToo && !b.base.held.Holds(&r.entry) {
			continue
		}
		b.base.cut(r.sock) // unblocks a caller that reads or writes
		cut++
	}
	return cut, 0
}

func (b *pgxBackend) pause() bool { return b.setHeld(true) }

func (b *pgxBackend) resume() { b.setHeld(false) }

// opening reports whether a connection is being opened, or a fill or a sweep has callers wait for a
// moment.
func (b *pgxBackend) opening() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dials > 0 || b.paused > 0 || b.permits > 0
}

// setHeld makes callers queue, or lets them go on. It reports false if they do already.
func (b *pgxBackend) setHeld(held bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == held {
		return false
	}
	b.held = held
	if held {
		b.giveUpLocked(b.left...) // a Pause waits for them
	}
	b.grantEarlyLocked()
	b.grantLocked()
	return true
}

func (b *pgxBackend) current() target { return b.target.Load() }

func (b *pgxBackend) try(ctx context.Context, to target, cfg *config) error {
	t, ok := to.(*pgxTarget)
	if !ok {
		return fmt.Errorf("sqlpool: not a target of pgx: %T", to)
	}
	c, err := b.dialOutside(ctx, t, cfg)
	if err != nil {
		return err
	}
	defer b.hangUp(ctx, c)
	return b.base.answered(pgxProbe(ctx, c, cfg.CheckQuery))
}

func (b *pgxBackend) takesWrites(ctx context.Context, query string) (bool, error) {
	c, err := b.dialOutside(ctx, b.target.Load(), b.base.cfg())
	if err != nil {
		return false, err
	}
	defer b.hangUp(ctx, c)
	var answer string
	if err := c.QueryRow(ctx, query, pgx.QueryExecModeSimpleProtocol).Scan(&answer); err != nil {
		return false, err
	}
	return writable(answer)
}

func (b *pgxBackend) use(ctx context.Context, to target, cfg *config, elsewhere bool) {
	if t, ok := to.(*pgxTarget); ok {
		b.target.Store(t)
	}
	b.mu.Lock()
	b.max = cfg.MaxOpen
	b.grantLocked()
	b.mu.Unlock()
	if elsewhere {
		b.probe.Redial(ctx)
	}
}
