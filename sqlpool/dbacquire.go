package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/queue"
)

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

// take gives a caller a connection from what is prefilled, or puts it into the queue, or neither
// because of MaxWaiting. beside says that idle connections exist which are not in what is
// prefilled: database/sql is just about to have them, or was told not to use them.
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

// usable makes an idle connection ready for a caller that asked at start, and pings it if it is
// suspect. It reports false if the connection must not be used. It waits no longer than patience
// says.
func (b *dbBackend) usable(ctx context.Context, n *native, start time.Time) bool {
	return b.resets(ctx, n, start) && b.answersPing(ctx, n, start)
}

// patience is how long a caller that asked at start may wait for an answer on an idle connection:
// up to limit, and up to a quarter of AcquireTimeout. database/sql tries two idle connections
// before it asks for another, so that at least half is left. telling says whether silence for that
// long tells something about the server, and not just about the caller's time.
func (c *base) patience(limit time.Duration, start time.Time) (wait time.Duration, telling bool) {
	total := c.cfg().AcquireTimeout
	if total <= 0 {
		return limit, true
	}
	wait = min(limit, total/4, max(total-time.Since(start), 0))
	return wait, wait >= min(limit, c.link.Enough())
}

// resetAfter is the time since a connection was last reset after which a driver may ask the server
// when it is reset again: pgx pings after one second.
const resetAfter = 500 * time.Millisecond

// resets has the driver reset the session, and reports false if the connection is of no use. A
// network that is gone does not hold up the caller.
func (b *dbBackend) resets(ctx context.Context, n *native, start time.Time) bool {
	if n.Resetter == nil {
		return true
	}
	silent := start.Sub(n.reset) >= resetAfter
	n.reset = start
	if !silent {
		return !errors.Is(n.resetSession(ctx, b.base), driver.ErrBadConn)
	}
	suspect := b.base.suspect(&n.times)
	limit := min(pingLimit, b.base.cfg().DialTimeout)
	if suspect {
		limit = b.base.suspectLimit()
	}
	wait, telling := b.base.patience(limit, start)
	err, inTime := n.resetWithin(ctx, b.base, wait)
	switch {
	case inTime:
		return !errors.Is(err, driver.ErrBadConn)
	case !telling:
	case suspect:
		b.base.noteSilent(b)
	default:
		b.base.noteDiedInUse(errLost, time.Now()) // the others are suspect, as if it had been in use
	}
	return false
}

// answersPing pings a connection if it is suspect, and reports false if it is not to be used.
func (b *dbBackend) answersPing(ctx context.Context, n *native, start time.Time) bool {
	if n.Pinger == nil || !b.base.suspect(&n.times) {
		return true
	}
	wait, telling := b.base.patience(b.base.suspectLimit(), start)
	ping, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	asked := time.Now()
	if n.ping(ping, b.base) == nil {
		b.base.link.Saw(time.Since(asked))
		b.mu.Lock()
		defer b.mu.Unlock()
		n.seen = time.Now()
		return true
	}
	if ctx.Err() == nil && (telling || ping.Err() == nil) { // else it is the caller that had no time
		b.base.noteSilent(b)
	}
	return false
}

// lookGap is the most time between two steps of one call of database/sql: an idle connection is
// refused, and the next one, or a new one, is asked for.
const lookGap = 50 * time.Millisecond

// lookedFrom notes that a caller has looked at an idle connection in vain since start.
func (b *dbBackend) lookedFrom(start time.Time) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if start.Sub(b.lookedAt) > lookGap {
		b.looked = 0
	}
	b.looked += now.Sub(start)
	if limit := b.base.cfg().AcquireTimeout; limit > 0 {
		b.looked = min(b.looked, limit/2)
	}
	b.lookedAt = now
}

// since returns when a caller that needs a new connection now began to ask. database/sql does not
// tell whether it is the caller that has just looked at idle ones in vain, so it counts as that
// one. So no caller waits for longer than AcquireTimeout in all.
func (b *dbBackend) since(now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.lookedAt) > lookGap {
		return now
	}
	return now.Add(-b.looked)
}

const (
	fetchIdleFrom = 20 * time.Microsecond // the first pause
	fetchIdleTo   = 5 * time.Millisecond  // last
)

// fetchIdle fetches idle connections for the queue in which w stands. It is needed in two cases: a
// connection was checked in just before w queued and had not reached database/sql's free list when
// it was asked, or database/sql has seen two broken connections in a row and insists on a new one
// while the pool is full. It ends AcquireTimeout after start.
func (b *dbBackend) fetchIdle(ctx context.Context, w *waiter, start time.Time) {
	b.ownLimits()
	limit := b.base.cfg().AcquireTimeout
	for pause := fetchIdleFrom; b.waitsBesideIdle(w); pause = min(2*pause, fetchIdleTo) {
		if limit > 0 && time.Since(start) >= limit {
			return
		}
		if lease, c := b.lease(ctx); lease != nil {
			_ = lease.Raw(func(any) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.coming--
				c.handOver = true
				return driver.ErrBadConn // database/sql closes the wrapper, which hands the connection over
			})
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// waitsBesideIdle reports whether w waits beside something idle.
func (b *dbBackend) waitsBesideIdle(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.Queued() && b.idle > 0 && b.dialing == 0
}
