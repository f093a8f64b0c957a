package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// customKey is where a connection's record lies in its PgConn().CustomData().
const customKey = "poolkeeper.sqlpool"

// cancelLimit bounds how pgconn asks the server to cancel a query that its caller has given up, if
// CloseGrace is off.
const cancelLimit = time.Second

// pgxConn is what the pool knows of one connection. The connection refers to it, and not the other
// way round: of a connection that was hijacked, only the garbage collector knows when it is gone.
type pgxConn struct {
	times // used and seen are guarded by the backend's mutex, the rest does not change once it is connected

	sock  net.Conn // below TLS
	dialer  *pgxDialer  // nil: it was not opened by the pool's own tracer
	entry holders.Entry

	// Owned by the goroutine that acquires or holds the connection.
	at      time.Time // of the acquisition under way; zero: it has taken time
	lastErr error     // of the last query that failed
	hookErr error     // of the user's ShouldPing: the acquisition under way fails with it
	met     bool      // an acquisition, or a fill, has been offered it
	allIdle bool      // the user's AcquireAllIdle has it

	demoted atomic.Bool // a refused write was noted, and the call that met it has not ended

	// guarded by the backend's mutex
	reason string // why it is being closed
	owes   bool   // its permit is given back when it is closed

	releasing  bool // the user's AfterRelease runs: it keeps its permit
	discounted bool // it is not counted as open any more, and about to be closed

	reclaimed, returned bool // taken away from its holder; the holder has released it

	candidate bool // it was held when a connection was hijacked, and may be that one
	gone      bool // it is out of the books: it was hijacked
}

// pgxBackend works on a *pgxpool.Pool from its hooks. Callers pass through permits: the pool's own
// queue, first in, first out, before pgxpool's.
//
//	Acquire ─ TraceAcquireStart ─▶ permit ─▶ pgxpool ─ prepareConn ─ TraceAcquireEnd ─▶ in use ─ TraceRelease ─▶ idle
//	              └ ErrDraining, AcquireError                                              Hijack: see reconcile
type pgxBackend struct {
	base     *base
	pool     *pgxpool.Pool // set before the backend is used
	target    atomic.Pointer[pgxTarget]
	probe    *checkconn.Conn[*pgx.Conn]
	life     context.Context //nolint:containedctx // ends at close; bounds cancel requests
	end      context.CancelFunc
	pending   inflight.Group // goroutines that wait for a connection to be closed, or end the pool's own work
	closing  life.Closer
	flushing atomic.Bool
	after    bool        // the user had an AfterRelease when the pool was made; does not change
	pooled   atomic.Bool // a pooler was found at the last look at the server's limits

	mu      sync.Mutex // guards the following and the times of every record; no I/O and no call of pgxpool under it
	max     int
	permits int // given out: holding a connection, acquiring one, or waiting for one to be closed
	holding int // of permits, with a connection
	open    int // connections that are established and not being closed
	dials   int // being opened
	slow    int // of those, the ones that take long
	peak    int
	paused  int // sweeps that have taken out what is idle for a moment
	waiting queue.Queue[*native]
	reusable   []*acquisition // to be used again
	waits   map[*waitingContext]struct{}
	all     map[*pgxConn]struct{}
	events  uint64      // acquisitions and releases so far, for reconcile
	hijacked    hijacks     // connections that have left the pool
	lost    int         // reclaimed, and not yet released: they take a place in pgxpool
	pings   int         // that pgxpool has under way for callers that gave up: they have permits
	later   *time.Timer // of the next reconcile while a caller waits
	held    bool        // paused by Pause
	closed  bool
}

func newPgxBackend() *pgxBackend {
	b := &pgxBackend{all: make(map[*pgxConn]struct{}), waits: make(map[*waitingContext]struct{})}
	b.life, b.end = context.WithCancel(context.Background()) //nolint:forbidigo // the backend's own life, ended by close
	b.probe = checkconn.New(checkconn.Driver[*pgx.Conn]{
		Dial: b.dialCheck, Probe: b.ask, HangUp: b.hangUp, Full: serverIsFull, Spare: b.withIdle,
	})
	return b
}

// check dials and pings outside the pool.
func (b *pgxBackend) check(ctx context.Context) error {
	return b.probe.Check(context.WithValue(ctx, evenIfDown{}, true))
}

func (b *pgxBackend) dialCheck(ctx context.Context) (*pgx.Conn, error) {
	return checkDial(ctx, b.base, func(ctx context.Context) (*pgx.Conn, error) {
		return b.dialOutside(ctx, b.target.Load(), b.base.cfg())
	})
}

// dialOutside opens a connection that is none of the pool's.
func (b *pgxBackend) dialOutside(ctx context.Context, to *pgxTarget, cfg *config) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	conn := to.conn.Copy()
	limit, err := b.personalize(ctx, to, conn, cfg)
	if err != nil {
		return nil, err
	}
	conn.Tracer = &pgxDialTracer{QueryTracer: conn.Tracer, b: b, outside: true, limit: limit}
	return pgx.ConnectConfig(ctx, conn)
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
	out.Max, out.Waiting = b.max, b.waiting.Len()
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
		err = fmt.Errorf("%s taken away by ReclaimAfter and never released, for which pgxpool waits for ever", plural.Of(n, "connection"))
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
	if b.later != nil {
		b.later.Stop()
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

// newConn makes the record of a new connection.
func (b *pgxBackend) newConn(c *pgx.Conn, sock net.Conn) *pgxConn {
	r := &pgxConn{sock: belowTLS(sock), times: times{draw: rand.Float64()}}
	c.PgConn().CustomData()[customKey] = r
	runtime.AddCleanup(c, b.forget, r)
	return r
}

// forget ends the record of a connection that no caller has any more. All but hijacked connections
// have left the books before.
func (b *pgxBackend) forget(r *pgxConn) {
	b.mu.Lock()
	if r.candidate {
		b.foundLocked(r)
	}
	delete(b.all, r)
	b.mu.Unlock()
	b.base.held.Release(&r.entry)
}

func connOf(c *pgconn.PgConn) *pgxConn {
	r, _ := c.CustomData()[customKey].(*pgxConn)
	return r
}
