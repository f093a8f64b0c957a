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
	"github.com/poolkeeper/poolkeeper/internal/queue"
)

// store holds the driver's connections of one *sql.DB: it opens them, knows which are in use, idle
// or on their way, and hands them to callers first in, first out. database/sql keeps the idle ones;
// its own limit is off.
//
//	caller ─ database/sql ─┬─ free list ─ ResetSession ─▶ checkOut
//	                       └─ Connect ─▶ acquire ─┬─ stash (opened ahead of need)
//	                                              └─ queue ◀─┬─ dial
//	                                                         └─ checkIn of another caller: handed over
type store struct {
	core     *core
	db       *sql.DB         // set before the store is used
	life     context.Context //nolint:containedctx // ends when the store closes; bounds dials
	end      context.CancelFunc
	left     inflight.Group // connections, and goroutines that open or close one
	flushing atomic.Bool

	// mu guards the following, the state of every conn and the times of every native. No I/O, no
	// callback and no call of database/sql under it. open = in use + idle + swept + stashed + being
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
	stash   []*native // idle, the last opened last
	waiting queue.Queue[*native]
	paused  bool // no caller gets a connection
	closed  bool

	lookedAt time.Time     // when a look at an idle connection last ended in vain
	looked   time.Duration // how long it took, with those just before it
}

func newStore(c *core, connector driver.Connector) *store {
	s := &store{core: c, connector: connector, max: c.cfg().MaxOpen, all: make(map[*native]struct{})}
	s.life, s.end = context.WithCancel(context.Background()) //nolint:forbidigo // the store's own life, ended by shut
	return s
}

func (s *store) aim() driver.Connector {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connector
}

// use makes new connections be opened by connector, and at most limit of them be open.
func (s *store) use(connector driver.Connector, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connector, s.max = connector, limit
	s.dialLocked()
}

// setPaused makes callers queue, or lets them go on. It reports false if they do already.
func (s *store) setPaused(paused bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == paused {
		return false
	}
	s.paused = paused
	stash := s.stash
	s.stash = nil
	for _, n := range stash { // empty, unless a dial has ended meanwhile
		s.deliverLocked(n)
	}
	s.dialLocked()
	return true
}

// checkOut books an idle connection as in use. It reports false if the connection must not be used:
// draining, or past its lifetime.
func (s *store) checkOut(c *conn, now time.Time) bool {
	admitted := s.core.gate.Enter()
	s.mu.Lock()
	s.idle--
	switch reason := s.core.stale(&c.n.times, now); {
	case !admitted:
		c.state, c.reason = stateLeaving, poolkeeper.EvictedClosed
	case reason != "":
		c.state, c.reason = stateLeaving, reason
	case s.inUse >= s.max, s.paused: // the limit was lowered; Connect will queue
		c.state, c.reason = stateLeaving, poolkeeper.EvictedReload
	default:
		c.state = stateInUse
		s.inUse++
		s.raiseLocked()
		s.mu.Unlock()
		return true
	}
	s.mu.Unlock()
	if admitted {
		s.core.gate.Leave()
	}
	return false
}

// checkIn books a connection as returned. It reports false if database/sql is to close it. That is
// so if it is broken, past its time, one too many, or handed to a caller in the queue.
func (s *store) checkIn(c *conn, ok bool) bool {
	now := time.Now()
	s.mu.Lock()
	was := s.leaveLocked(c)
	if was == stateInUse && ok {
		c.n.used, c.n.seen, c.n.aged = now, now, true
	}
	switch reason := s.core.stale(&c.n.times, now); {
	case was == stateReclaimed:
	case !ok:
		c.reason = poolkeeper.EvictedDead
	case s.closed:
		c.reason = poolkeeper.EvictedClosed
	case reason != "":
		c.reason = reason
	case s.open > s.max, s.paused:
		c.reason = poolkeeper.EvictedReload
	case s.waiting.Len() > 0:
		c.hand = true
	default:
		c.state = stateIdle
		s.idle++
	}
	kept := c.state == stateIdle
	s.mu.Unlock()
	if was == stateInUse {
		s.core.released(&c.n.entry, now, ok)
		s.returned(c, ok, now)
	}
	return kept
}

// closeConn ends a wrapper: its connection is handed over or closed.
func (s *store) closeConn(c *conn) error {
	s.mu.Lock()
	if c.state == stateClosed {
		s.mu.Unlock()
		return nil
	}
	was := s.leaveLocked(c)
	c.state, c.n.in = stateClosed, nil
	if was == stateReclaimed {
		s.mu.Unlock()
		return s.hangUp(c.n, nil, hangUpLimit)
	}
	if c.hand && !s.closed {
		s.deliverLocked(c.n)
		s.mu.Unlock()
		return nil
	}
	reason := c.reason
	if reason == "" {
		reason = poolkeeper.EvictedClosed
		if was == stateInUse { // straight from use: the driver said ErrBadConn
			reason = poolkeeper.EvictedDead
		}
	}
	s.mu.Unlock()
	if was == stateInUse {
		now := time.Now()
		s.core.released(&c.n.entry, now, false)
		s.returned(c, false, now)
	}
	limit := hangUpLimit
	if c.given { // a caller is still waiting for another one
		limit = cutGrace
	}
	return s.discard(c.n, reason, limit)
}

// leaveLocked takes c out of the count of its state, and returns which that was.
func (s *store) leaveLocked(c *conn) connState {
	was := c.state
	switch was {
	case stateInUse:
		s.inUse--
	case stateIdle:
		s.idle--
	case stateSwept:
		s.swept--
	case stateReclaimed, stateLeaving, stateClosed:
	}
	if was != stateReclaimed { // it stays that until it is closed
		c.state = stateLeaving
	}
	return was
}

// deliverLocked gives n to the first in the queue, or keeps it for the next caller.
func (s *store) deliverLocked(n *native) {
	if !s.paused {
		if w := s.waiting.PopInTime(s.core.met.shortUse.Load()); w != nil {
			s.inUse++
			w.Grant(n)
			return
		}
	}
	n.aged = true
	s.stash = append(s.stash, n)
}

// discard closes n and frees its place. It waits for the driver no longer than limit.
func (s *store) discard(n *native, reason string, limit time.Duration) error {
	err := s.hangUp(n, nil, limit)
	s.mu.Lock()
	delete(s.all, n)
	s.open--
	s.dialLocked()
	s.mu.Unlock()
	s.left.End()
	s.core.met.evicted(reason)
	s.core.evictor.Wake()
	return err
}

// take gives a caller a connection from the stash, or puts it into the queue, or neither because of
// MaxWaiting. beside says that idle connections exist which are not in the stash: database/sql is
// just about to have them, or was told not to use them.
func (s *store) take(ctx context.Context, start time.Time) (n *native, w *waiter, beside bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, false, s.core.refusal()
	}
	if d := s.core.down(); d != nil {
		return nil, nil, false, d
	}
	if s.waiting.Len() == 0 && len(s.stash) > 0 && !s.paused {
		n := s.stash[len(s.stash)-1]
		s.stash = s.stash[:len(s.stash)-1]
		s.inUse++
		s.raiseLocked()
		return n, nil, false, nil
	}
	if s.core.tooMany(s.inUse+s.waiting.Len(), s.max) {
		return nil, nil, false, nil
	}
	w = s.waiting.Push(ctx, start, func() { s.dial(ctx) })
	s.raiseLocked()
	s.dialLocked()
	return nil, w, s.idle > 0 && s.dialing == 0 && !s.paused, nil
}

// acquire returns a connection for a caller that asked at start.
func (s *store) acquire(ctx context.Context, start time.Time) (*native, error) {
	var fresh wasted
	for {
		n, err := s.takeOrAwait(ctx, start)
		if err != nil {
			return nil, err
		}
		reason, isNew := s.fit(ctx, n, start)
		if reason == "" {
			return n, nil
		}
		if isNew {
			if err := fresh.another(ctx, s.core, reason, start); err != nil {
				return nil, err
			}
		}
	}
}

func (s *store) takeOrAwait(ctx context.Context, start time.Time) (*native, error) {
	n, w, beside, err := s.take(ctx, start)
	switch {
	case err != nil || n != nil:
		return n, err
	case w == nil:
		return nil, s.core.refused()
	case beside:
		s.rescue(ctx, w, start)
	}
	return s.await(ctx, w, start)
}

// await waits for a grant, up to what is left of AcquireTimeout.
func (s *store) await(ctx context.Context, w *waiter, start time.Time) (*native, error) {
	if g, ok := s.core.waitFor(ctx, w, start); ok {
		if errors.Is(g.Err, queue.ErrTooLate) {
			return nil, s.core.tooLate(start)
		}
		return g.Conn, g.Err
	}
	s.mu.Lock()
	queued := s.waiting.Remove(w)
	s.mu.Unlock()
	failure := s.core.acquireFailed(ctx, start)
	if !queued {
		if g := w.Result(); g.Conn != nil { // granted at the last moment: it belongs to the next in line
			s.putBack(g.Conn)
		}
	}
	return nil, failure
}

func (s *store) putBack(n *native) {
	s.mu.Lock()
	s.inUse--
	if s.closed {
		s.mu.Unlock()
		_ = s.discard(n, poolkeeper.EvictedClosed, hangUpLimit)
		return
	}
	s.deliverLocked(n)
	s.mu.Unlock()
}

// fit makes a connection that is not new ready for a caller that asked at start, as database/sql
// does at checkout. If the connection must not be used it says why, and closes it in the
// background.
func (s *store) fit(ctx context.Context, n *native, start time.Time) (reason string, isNew bool) {
	s.mu.Lock()
	isNew = !n.aged
	s.mu.Unlock()
	reason = s.core.stale(&n.times, time.Now())
	if reason == "" {
		if isNew || s.usable(ctx, n, start) {
			return "", isNew
		}
		reason = poolkeeper.EvictedDead
	}
	s.mu.Lock()
	s.inUse--
	s.mu.Unlock()
	// Owner: the store. It is bounded by hangUpLimit; close waits for it.
	s.left.Go(func() { _ = s.discard(n, reason, hangUpLimit) })
	return reason, isNew
}

func (s *store) raiseLocked() {
	s.peak = max(s.peak, s.inUse+s.waiting.Len())
}

// stats fills in the gauges.
func (s *store) stats(out *poolkeeper.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Max, out.Open, out.InUse, out.Waiting = s.max, s.open, s.inUse, s.waiting.Len()
	out.Idle = s.idle + s.swept + len(s.stash)
}

// shut closes the store: callers in the queue are refused, the stash is closed, and what comes back
// is closed then.
func (s *store) shut() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	stash := s.stash
	s.stash = nil
	var refused []*waiter
	for w := s.waiting.Pop(); w != nil; w = s.waiting.Pop() {
		refused = append(refused, w)
	}
	s.mu.Unlock()
	s.end()
	var errs []error
	for _, w := range refused {
		w.Refuse(fmt.Errorf("sqlpool: acquire from %q: %w", s.core.poolName(), poolkeeper.ErrClosed))
	}
	for _, n := range stash {
		errs = append(errs, s.discard(n, poolkeeper.EvictedClosed, hangUpLimit))
	}
	return errors.Join(errs...)
}
