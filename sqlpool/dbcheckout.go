package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

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

func (b *dbBackend) raiseLocked() {
	b.peak = max(b.peak, b.inUse+b.waiting.Len())
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

// errLost stands for the errors of a connection that its driver gave up while a caller had it:
// those of statements and rows do not pass through here.
var errLost = errors.New("sqlpool: a connection was lost in use")

// noteReturned draws conclusions from how a connection came back.
func (b *dbBackend) noteReturned(c *conn, ok bool, now time.Time) {
	switch {
	case ok:
		b.base.observer.Succeeded()
	case !c.given:
		b.base.noteDiedInUse(c.cause(), now)
		b.base.observer.Observe(errLost)
	}
	c.last, c.lastErr, c.readOnly = nil, nil, false
}

// noteFailed looks at the error of an operation: what says something about the server, or the way
// there, is passed on.
func (b *dbBackend) noteFailed(c *conn, err error) {
	refused := c.refusedWrite(err)
	if refused || fault.ConnectionLevel(err) && fault.Classify(err).Kind != health.KindReadOnly {
		b.base.observer.Observe(err)
	}
	if refused {
		b.base.noteRefusedWrite(b, c.n.generation, err)
	}
}

// refusedWrite reports whether err says that the server is read-only, and not only the session.
func (c *conn) refusedWrite(err error) bool {
	if pg, ok := c.n.Native.(*stdlib.Conn); ok {
		e, ok := errors.AsType[*pgconn.PgError](err)
		return ok && fault.PGRefusesWrites(pg.Conn().PgConn(), e)
	}
	return fault.RefusesWrites(err, c.readOnly)
}

// after looks at how an operation under ctx ended.
func (c *conn) after(ctx context.Context, err error) {
	c.last = ctx
	if err != nil && err != driver.ErrSkip { //nolint:errorlint // ErrSkip is compared, never wrapped
		c.lastErr = err
		c.b.noteFailed(c, err)
	}
}

// cause is why a connection died in use, as far as it was seen: rows end without a word, but under
// their context.
func (c *conn) cause() error {
	if c.lastErr == nil && c.last != nil {
		return c.last.Err()
	}
	return c.lastErr
}
