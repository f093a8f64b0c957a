package sqlpool

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
)

// pgxpool does not report a Hijack. The pool finds out by comparing its books with pgxpool's count
// of acquired connections. That shows how many have left, but not which. All connections that were
// held at that moment are candidates. A candidate that is released was not hijacked. As soon as no
// more candidates than hijacked connections are left, these are the hijacked ones. Until then
// candidates are neither reported as leaks nor blamed for a full pool.

// hijacks are the connections that have left. The backend's mutex guards them.
type hijacks struct {
	unknown    int // hijacked, and it is not known which of the candidates they are
	candidates int
	ofLost     int // connections taken away by ReclaimAfter that seem to have been hijacked by their holders
}

func (b *pgxBackend) hijack(c *pgxpool.Conn) *pgx.Conn {
	r := connOf(c.Conn().PgConn())
	b.mu.Lock()
	_, ours := b.all[r]
	ours = ours && r != nil && b.base.held.Holds(&r.entry)
	taken := r != nil && r.reclaimed && !r.returned
	switch {
	case taken:
		b.returnedLocked(r)
	case ours:
		if r.candidate {
			b.clearLocked(r)
		}
		b.holding--
		b.permits--
		b.leaveLocked(r)
		b.grantLocked()
	}
	b.mu.Unlock()
	if ours && !taken {
		b.base.gate.Leave()
	}
	return c.Hijack()
}

// reconcile compares the pool's books with pgxpool's. A hijacked connection left unnoticed, so
// reconcile gives its permit back. The comparison is valid only if no caller acquires or releases
// meanwhile. It reports false if a caller did; a later one may be valid.
func (b *pgxBackend) reconcile() bool {
	b.mu.Lock()
	events, booked := b.events, b.holding+b.lost+b.pings
	b.mu.Unlock()
	acquired := int(b.pool.Stat().AcquiredConns())
	b.mu.Lock()
	if b.events != events {
		b.mu.Unlock()
		return false
	}
	gone := max(booked-acquired, 0)
	if gone > 0 {
		b.events++
	}
	pinged := min(gone, b.pings)
	b.pings -= pinged
	b.permits -= pinged
	gone -= pinged
	// A connection that was taken away from its holder comes first: to free a place that is still
	// taken would be worse.
	lost := min(gone, b.lost)
	b.lost -= lost
	b.hijacked.ofLost += lost
	gone -= lost
	if gone > 0 {
		b.missLocked(gone)
	}
	b.grantLocked()
	b.mu.Unlock()
	for range gone {
		b.base.gate.Leave()
	}
	return true
}

// missLocked books that n of the connections that are held have left.
func (b *pgxBackend) missLocked(n int) {
	b.holding -= n
	b.permits -= n
	b.open -= n
	b.hijacked.unknown += n
	for r := range b.all {
		if !r.candidate && b.base.held.Holds(&r.entry) {
			r.candidate = true
			b.hijacked.candidates++
			b.base.held.Doubt(&r.entry, true)
		}
	}
	b.settleHijacksLocked()
}

// backLocked books that a connection that was taken for hijacked has come back.
func (b *pgxBackend) backLocked(r *pgxConn) {
	r.gone = false
	b.all[r] = struct{}{}
	b.open++
	b.events++
}

// settleHijacksLocked takes the candidates off the books when all of them have left, and clears
// them when none has.
func (b *pgxBackend) settleHijacksLocked() {
	if b.hijacked.candidates == 0 || b.hijacked.unknown != 0 && b.hijacked.unknown < b.hijacked.candidates {
		return
	}
	for r := range b.all {
		if !r.candidate {
			continue
		}
		r.candidate = false
		if b.hijacked.unknown > 0 {
			b.offBooksLocked(r)
		} else {
			b.base.held.Doubt(&r.entry, false)
		}
	}
	b.hijacked.candidates, b.hijacked.unknown = 0, 0
}

// clearLocked notes that a candidate has not left.
func (b *pgxBackend) clearLocked(r *pgxConn) {
	r.candidate = false
	b.hijacked.candidates--
	b.base.held.Doubt(&r.entry, false)
	b.settleHijacksLocked()
}

// foundLocked notes that a candidate has left.
func (b *pgxBackend) foundLocked(r *pgxConn) {
	r.candidate = false
	b.hijacked.candidates--
	b.hijacked.unknown--
	b.offBooksLocked(r)
	b.settleHijacksLocked()
}

// leaveLocked books that a connection leaves the pool.
func (b *pgxBackend) leaveLocked(r *pgxConn) {
	b.open--
	b.events++
	b.offBooksLocked(r)
}

func (b *pgxBackend) offBooksLocked(r *pgxConn) {
	r.gone = true
	delete(b.all, r)
	b.base.held.Release(&r.entry)
}

// returnedLocked books that a connection that was reclaimed no longer takes a place in pgxpool.
func (b *pgxBackend) returnedLocked(r *pgxConn) {
	r.returned = true
	b.events++
	if b.lost > 0 || b.hijacked.ofLost == 0 {
		b.lost = max(b.lost-1, 0)
		return
	}
	// It was taken for hijacked. So it was another one that left, which a caller had acquired.
	b.hijacked.ofLost--
	b.missLocked(1)
	b.base.gate.Leave()
}

// reclaim does the same on pgxpool, whose own place for a connection is free only when it is
// released: it counts against MaxOpenCeiling until then. A connection that may have been hijacked
// is left alone.
func (b *pgxBackend) reclaim(now time.Time, limit time.Duration) (taken []poolkeeper.Holder, out int) {
	if !b.reconcile() {
		return nil, 0 // too busy for now
	}
	type victim struct {
		r   *pgxConn
		who func() poolkeeper.Holder
	}
	var victims []victim
	b.mu.Lock()
	for r := range b.all {
		if r.candidate { // a caller may have hijacked it
			if b.base.held.HeldFor(&r.entry, now) > limit {
				out++
			}
			continue
		}
		who, ok := b.base.held.Seize(&r.entry, now, limit)
		if !ok {
			continue
		}
		victims = append(victims, victim{r, who})
		r.reclaimed, r.reason = true, poolkeeper.EvictedDead
		delete(b.all, r)
		b.lost++
		b.holding--
		b.permits--
		b.open--
		b.events++
	}
	b.grantLocked()
	b.mu.Unlock()
	for _, v := range victims {
		b.base.cut(v.r.sock) // unblocks a caller that reads or writes
		taken = append(taken, v.who())
	}
	return taken, out
}

// givenBack books the release of a connection that had been reclaimed, and has pgxpool see that it
// is closed; so with one that the user's AcquireAllIdle has kept until it was stale.
func (b *pgxBackend) givenBack(c *pgx.Conn, r *pgxConn) {
	b.mu.Lock()
	if r.gone {
		b.backLocked(r)
	}
	stale := ""
	if r.allIdle {
		stale, r.allIdle = b.base.stale(&r.times, time.Now()), false
		r.reason = stale
	}
	reclaimed := r.reclaimed && !r.returned
	if reclaimed {
		b.returnedLocked(r)
		b.grantLocked()
	}
	b.mu.Unlock()
	switch {
	case reclaimed:
		ctx, cancel := context.WithTimeout(b.life, hangUpLimit)
		defer cancel()
		_ = c.Close(ctx) // its socket is closed already: this does not block
	case stale != "":
		b.hangUp(b.life, c)
	}
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
