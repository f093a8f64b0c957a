package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// dbBackend holds the driver's connections of one *sql.DB: it opens them, knows which are in use, idle
// or on their way, and hands them to callers first in, first out. database/sql keeps the idle ones;
// its own limit is off.
//
//	caller ─ database/sql ─┬─ free list ─ ResetSession ─▶ checkOut
//	                       └─ Connect ─▶ acquire ─┬─ prefilled (opened ahead of need)
//	                                              └─ queue ◀─┬─ dial
//	                                                         └─ checkIn of another caller: handed over
type dbBackend struct {
	base     *base
	probe    *checkconn.Conn[*native]
	resolveBy    func(config, secretFiles) (driver.Connector, config, error)
	closing  life.Closer
	db       *sql.DB         // set before the backend is used
	life     context.Context //nolint:containedctx // ends when the backend closes; bounds dials
	end      context.CancelFunc
	pending     inflight.Group // connections, and goroutines that open or close one
	flushing atomic.Bool

	// mu guards the following, the state of every conn and the times of every native. No I/O, no
	// callback and no call of database/sql under it. open = in use + idle + swept + prefilled + being
	// handed over.
	mu        sync.Mutex
	connector driver.Connector // the driver's, or what stands for it

	max     int
	open    int
	dialing int        // being opened; open + dialing ≤ max
	slow    []*dialing // of those, the ones that take long, the oldest first
	inUse   int
	idle    int // checked in to database/sql
	swept   int // taken out by the evictor
	coming  int // of swept, those about to be given back: no reason to dial
	peak    int // most connections in use or waited for at once since the last Peak
	all     map[*native]struct{}
	prefilled   []*native // idle, the last opened last
	waiting queue.Queue[*native]
	paused  bool // no caller gets a connection
	closed  bool

	lookedAt time.Time     // when a look at an idle connection last ended in vain
	looked   time.Duration // how long it took, with those just before it
}

func newDBBackend(c *base, connector driver.Connector, resolve func(config, secretFiles) (driver.Connector, config, error)) *dbBackend {
	s := &dbBackend{base: c, resolveBy: resolve, connector: connector, max: c.cfg().MaxOpen, all: make(map[*native]struct{})}
	s.life, s.end = context.WithCancel(context.Background()) //nolint:forbidigo // the backend's own life, ended by shut
	s.probe = checkconn.New(checkconn.Driver[*native]{
		Dial: s.dialCheck, Probe: s.ask, HangUp: s.hangUpCheck, Full: serverIsFull, Spare: s.withIdle,
	})
	return s
}

func (b *dbBackend) connectorNow() driver.Connector {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connector
}

// setConnector makes new connections be opened by connector, and at most limit of them be open.
func (b *dbBackend) setConnector(connector driver.Connector, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connector, b.max = connector, limit
	b.dialLocked()
}

// setPaused makes callers queue, or lets them go on. It reports false if they do already.
func (b *dbBackend) setPaused(paused bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused == paused {
		return false
	}
	b.paused = paused
	prefilled := b.prefilled
	b.prefilled = nil
	for _, n := range prefilled { // empty, unless a dial has ended meanwhile
		b.deliverLocked(n)
	}
	b.dialLocked()
	return true
}

// checkOut books an idle connection as in use. It reports false if the connection must not be used:
// draining, or past its lifetime.
func (b *dbBackend) checkOut(c *conn, now time.Time) bool {
	admitted := b.base.gate.Enter()
	b.mu.Lock()
	b.idle--
	switch reason := b.base.stale(&c.n.times, now); {
	case !admitted:
		c.state, c.reason = stateLeaving, poolkeeper.EvictedClosed
	case reason != "":
		c.state, c.reason = stateLeaving, reason
	case b.inUse >= b.max, b.paused: // the limit was lowered; Connect will queue
		c.state, c.reason = stateLeaving, poolkeeper.EvictedReload
	default:
		c.state = stateInUse
		b.inUse++
		b.raiseLocked()
		b.mu.Unlock()
		return true
	}
	b.mu.Unlock()
	if admitted {
		b.base.gate.Leave()
	}
	return false
}

// checkIn books a connection as returned. It reports false if database/sql is to close it. That is
// so if it is broken, past its time, one too many, or handed to a caller in the queue.
func (b *dbBackend) checkIn(c *conn, ok bool) bool {
	now := time.Now()
	b.mu.Lock()
	was := b.leaveLocked(c)
	if was == stateInUse && ok {
		c.n.used, c.n.seen, c.n.aged = now, now, true
	}
	switch reason := b.base.stale(&c.n.times, now); {
	case was == stateReclaimed:
	case !ok:
		c.reason = poolkeeper.EvictedDead
	case b.closed:
		c.reason = poolkeeper.EvictedClosed
	case reason != "":
		c.reason = reason
	case b.open > b.max, b.paused:
		c.reason = poolkeeper.EvictedReload
	case b.waiting.Len() > 0:
		c.handOver = true
	default:
		c.state = stateIdle
		b.idle++
	}
	kept := c.state == stateIdle
	b.mu.Unlock()
	if was == stateInUse {
		b.base.noteReleased(&c.n.entry, now, ok)
		b.noteReturned(c, ok, now)
	}
	return kept
}

// closeConn ends a wrapper: its connection is handed over or closed.
func (b *dbBackend) closeConn(c *conn) error {
	b.mu.Lock()
	if c.state == stateClosed {
		b.mu.Unlock()
		return nil
	}
	was := b.leaveLocked(c)
	c.state, c.n.in = stateClosed, nil
	if was == stateReclaimed {
		b.mu.Unlock()
		return b.hangUp(c.n, nil, hangUpLimit)
	}
	if c.handOver && !b.closed {
		b.deliverLocked(c.n)
		b.mu.Unlock()
		return nil
	}
	reason := c.reason
	if reason == "" {
		reason = poolkeeper.EvictedClosed
		if was == stateInUse { // straight from use: the driver said ErrBadConn
			reason = poolkeeper.EvictedDead
		}
	}
	b.mu.Unlock()
	if was == stateInUse {
		now := time.Now()
		b.base.noteReleased(&c.n.entry, now, false)
		b.noteReturned(c, false, now)
	}
	limit := hangUpLimit
	if c.given { // a caller is still waiting for another one
		limit = cutGrace
	}
	return b.discard(c.n, reason, limit)
}

// leaveLocked takes c out of the count of its state, and returns which that was.
func (b *dbBackend) leaveLocked(c *conn) connState {
	was := c.state
	switch was {
	case stateInUse:
		b.inUse--
	case stateIdle:
		b.idle--
	case stateSwept:
		b.swept--
	case stateReclaimed, stateLeaving, stateClosed:
	}
	if was != stateReclaimed { // it stays that until it is closed
		c.state = stateLeaving
	}
	return was
}

// deliverLocked gives n to the first in the queue, or keeps it for the next caller.
func (b *dbBackend) deliverLocked(n *native) {
	if !b.paused {
		if w := b.waiting.PopInTime(b.base.metrics.shortUse.Load()); w != nil {
			b.inUse++
			w.Grant(n)
			return
		}
	}
	n.aged = true
	b.prefilled = append(b.prefilled, n)
}

// discard closes n and frees its place. It waits for the driver no longer than limit.
func (b *dbBackend) discard(n *native, reason string, limit time.Duration) error {
	err := b.hangUp(n, nil, limit)
	b.mu.Lock()
	delete(b.all, n)
	b.open--
	b.dialLocked()
	b.mu.Unlock()
	b.pending.End()
	b.base.metrics.evicted(reason)
	b.base.evictor.Wake()
	return err
}

// take gives a caller a connection from what is prefilled, or puts it into the queue, or neither because of
// MaxWaiting. beside says that idle connections exist which are not in what is prefilled: database/sql is
// just about to have them, or was told not to use them.
func (b *dbBackend) take(ctx context.Context, start time.Time) (n *native, w *waiter, beside bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, false, b.base.refusal()
	}
	if d := b.base.down(); d != nil {
		return nil, nil, false, d
	}
	if b.waiting.Len() == 0 && len(b.prefilled) > 0 && !b.paused {
		n := b.prefilled[len(b.prefilled)-1]
		b.prefilled = b.prefilled[:len(b.prefilled)-1]
		b.inUse++
		b.raiseLocked()
		return n, nil, false, nil
	}
	if b.base.tooMany(b.inUse+b.waiting.Len(), b.max) {
		return nil, nil, false, nil
	}
	w = b.waiting.Push(ctx, start, func() { b.dial(ctx) })
	b.raiseLocked()
	b.dialLocked()
	return nil, w, b.idle > 0 && b.dialing == 0 && !b.paused, nil
}

// acquire returns a connection for a caller that asked at start.
func (b *dbBackend) acquire(ctx context.Context, start time.Time) (*native, error) {
	var fresh discarded
	for {
		n, err := b.takeOrAwait(ctx, start)
		if err != nil {
			return nil, err
		}
		reason, isNew := b.fit(ctx, n, start)
		if reason == "" {
			return n, nil
		}
		if isNew {
			if err := fresh.noteAnother(ctx, b.base, b, reason, start); err != nil {
				return nil, err
			}
		}
	}
}

func (b *dbBackend) takeOrAwait(ctx context.Context, start time.Time) (*native, error) {
	n, w, beside, err := b.take(ctx, start)
	switch {
	case err != nil || n != nil:
		return n, err
	case w == nil:
		return nil, b.base.refused(b)
	case beside:
		b.fetchIdle(ctx, w, start)
	}
	return b.await(ctx, w, start)
}

// await waits for a grant, up to what is left of AcquireTimeout.
func (b *dbBackend) await(ctx context.Context, w *waiter, start time.Time) (*native, error) {
	if g, ok := b.base.waitFor(ctx, w, start); ok {
		if errors.Is(g.Err, queue.ErrTooLate) {
			return nil, b.base.tooLate(b, start)
		}
		return g.Conn, g.Err
	}
	b.mu.Lock()
	queued := b.waiting.Remove(w)
	b.mu.Unlock()
	failure := b.base.acquireFailed(ctx, b, start)
	if !queued {
		if g := w.Result(); g.Conn != nil { // granted at the last moment: it belongs to the next in line
			b.putBack(g.Conn)
		}
	}
	return nil, failure
}

func (b *dbBackend) putBack(n *native) {
	b.mu.Lock()
	b.inUse--
	if b.closed {
		b.mu.Unlock()
		_ = b.discard(n, poolkeeper.EvictedClosed, hangUpLimit)
		return
	}
	b.deliverLocked(n)
	b.mu.Unlock()
}

// fit makes a connection that is not new ready for a caller that asked at start, as database/sql
// does at checkout. If the connection must not be used it says why, and closes it in the
// background.
func (b *dbBackend) fit(ctx context.Context, n *native, start time.Time) (reason string, isNew bool) {
	b.mu.Lock()
	isNew = !n.aged
	b.mu.Unlock()
	reason = b.base.stale(&n.times, time.Now())
	if reason == "" {
		if isNew || b.usable(ctx, n, start) {
			return "", isNew
		}
		reason = poolkeeper.EvictedDead
	}
	b.mu.Lock()
	b.inUse--
	b.mu.Unlock()
	// Owner: the backend. It is bounded by hangUpLimit; close waits for it.
	b.pending.Go(func() { _ = b.discard(n, reason, hangUpLimit) })
	return reason, isNew
}

func (b *dbBackend) raiseLocked() {
	b.peak = max(b.peak, b.inUse+b.waiting.Len())
}

// load implements reporter. The place of a reclaimed connection is free at once.
func (b *dbBackend) load() load {
	b.mu.Lock()
	defer b.mu.Unlock()
	return load{max: b.max, inUse: b.inUse, waiting: b.waiting.Len(), dialing: b.dialing}
}

// stats fills in the gauges.
func (b *dbBackend) stats(out *poolkeeper.Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Max, out.Open, out.InUse, out.Waiting = b.max, b.open, b.inUse, b.waiting.Len()
	out.Idle = b.idle + b.swept + len(b.prefilled)
}

// shut closes the backend: callers in the queue are refused, what is prefilled is closed, and what comes back
// is closed then.
func (b *dbBackend) shut() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	prefilled := b.prefilled
	b.prefilled = nil
	var refused []*waiter
	for w := b.waiting.Pop(); w != nil; w = b.waiting.Pop() {
		refused = append(refused, w)
	}
	b.mu.Unlock()
	b.end()
	var errs []error
	for _, w := range refused {
		w.Refuse(fmt.Errorf("sqlpool: acquire from %q: %w", b.base.poolName(), poolkeeper.ErrClosed))
	}
	for _, n := range prefilled {
		errs = append(errs, b.discard(n, poolkeeper.EvictedClosed, hangUpLimit))
	}
	return errors.Join(errs...)
}
