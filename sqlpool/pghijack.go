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

func (b *pgBackend) hijack(c *pgxpool.Conn) *pgx.Conn {
	r := record(c.Conn().PgConn())
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
func (b *pgBackend) reconcile() bool {
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
	b.left.ofLost += lost
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
func (b *pgBackend) missLocked(n int) {
	b.holding -= n
	b.permits -= n
	b.open -= n
	b.left.unknown += n
	for r := range b.all {
		if !r.candidate && b.base.held.Holds(&r.entry) {
			r.candidate = true
			b.left.candidates++
			b.base.held.Doubt(&r.entry, true)
		}
	}
	b.settleHijacksLocked()
}

// backLocked books that a connection that was taken for hijacked has come back.
func (b *pgBackend) backLocked(r *pgRecord) {
	r.gone = false
	b.all[r] = struct{}{}
	b.open++
	b.events++
}

// settleHijacksLocked takes the candidates off the books when all of them have left, and clears
// them when none has.
func (b *pgBackend) settleHijacksLocked() {
	if b.left.candidates == 0 || b.left.unknown != 0 && b.left.unknown < b.left.candidates {
		return
	}
	for r := range b.all {
		if !r.candidate {
			continue
		}
		r.candidate = false
		if b.left.unknown > 0 {
			b.offBooksLocked(r)
		} else {
			b.base.held.Doubt(&r.entry, false)
		}
	}
	b.left.candidates, b.left.unknown = 0, 0
}

// clearLocked notes that a candidate has not left.
func (b *pgBackend) clearLocked(r *pgRecord) {
	r.candidate = false
	b.left.candidates--
	b.base.held.Doubt(&r.entry, false)
	b.settleHijacksLocked()
}

// foundLocked notes that a candidate has left.
func (b *pgBackend) foundLocked(r *pgRecord) {
	r.candidate = false
	b.left.candidates--
	b.left.unknown--
	b.offBooksLocked(r)
	b.settleHijacksLocked()
}

// leaveLocked books that a connection leaves the pool.
func (b *pgBackend) leaveLocked(r *pgRecord) {
	b.open--
	b.events++
	b.offBooksLocked(r)
}

func (b *pgBackend) offBooksLocked(r *pgRecord) {
	r.gone = true
	delete(b.all, r)
	b.base.held.Release(&r.entry)
}

// returnedLocked books that a connection that was reclaimed no longer takes a place in pgxpool.
func (b *pgBackend) returnedLocked(r *pgRecord) {
	r.returned = true
	b.events++
	if b.lost > 0 || b.left.ofLost == 0 {
		b.lost = max(b.lost-1, 0)
		return
	}
	// It was taken for hijacked. So it was another one that left, which a caller had acquired.
	b.left.ofLost--
	b.missLocked(1)
	b.base.gate.Leave()
}
