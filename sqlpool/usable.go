package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

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

// resetWithin resets the session and reports whether that took no longer than limit. Past it the
// socket is closed, or where that is out of reach the driver's context ends.
func (n *native) resetWithin(ctx context.Context, c *base, limit time.Duration) (err error, inTime bool) {
	if n.sock == nil {
		bounded, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err = n.resetSession(bounded, c)
		return err, bounded.Err() == nil || ctx.Err() != nil
	}
	cut := time.AfterFunc(limit, func() { c.cut(n.sock) })
	err = n.resetSession(ctx, c)
	return err, cut.Stop()
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

// refuse keeps an idle connection from a caller, because the server is known to be down. Its socket
// is closed first: what database/sql prepared on it is closed with it, and no driver waits for an
// answer to that.
func (b *dbBackend) refuse(c *conn) {
	b.mu.Lock()
	was := b.leaveLocked(c)
	c.reason = poolkeeper.EvictedDead
	b.mu.Unlock()
	c.given = true
	if was != stateReclaimed && c.n.sock != nil {
		b.base.cut(c.n.sock)
	}
}
