package sqlpool

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// Hijack takes a connection out of the pool for good, as c.Hijack does. The caller must close it;
// its place is free at once. c.Hijack works too, but then the pool cannot tell which connection has
// left while callers hold several. It reports none of those as leaks until it can. Like c.Hijack it
// panics if c was released or hijacked before.
func (p *Postgres) Hijack(c *pgxpool.Conn) *pgx.Conn { return p.back.hijack(c) }

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
