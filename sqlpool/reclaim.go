package sqlpool

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// reclaimLooks is how often during one ReclaimAfter the holds are compared with it.
const reclaimLooks = 8

func (m *manager) reclaimNow(limit time.Duration) {
	now := time.Now()
	taken, out := m.back.reclaim(now, limit)
	for _, h := range taken {
		m.metrics.use.Record(now.Sub(h.Since))
		m.metrics.evicted(poolkeeper.EvictedDead)
		m.gate.Leave()
		m.events.Emit(event.OfReclaim(h, now, limit))
	}
	if len(taken) > 0 {
		m.evictor.Wake()
	}
	if out > 0 && m.unreached.CompareAndSwap(false, true) {
		m.events.Emit(event.Event{
			Kind: event.Trouble, Level: slog.LevelError,
			Text:  "connections are held beyond ReclaimAfter and cannot be taken away: their sockets are out of reach, or one was hijacked",
			Attrs: []slog.Attr{slog.Int("connections", out)},
		})
	}
}

// reclaim takes connections away from their holders. It closes their sockets, so that the holder's
// next use fails, and frees their places at once. database/sql returns the closed connection when
// its holder is done with it, or never.
func (b *dbBackend) reclaim(now time.Time, limit time.Duration) (taken []poolkeeper.Holder, out int) {
	type victim struct {
		n   *native
		who func() poolkeeper.Holder
	}
	var victims []victim
	b.mu.Lock()
	for n := range b.all {
		if n.in == nil || n.in.state != stateInUse {
			continue
		}
		if n.sock == nil {
			if b.base.held.HeldFor(&n.entry, now) > limit {
				out++
			}
			continue
		}
		who, ok := b.base.held.Seize(&n.entry, now, limit)
		if !ok {
			continue
		}
		victims = append(victims, victim{n, who})
		n.in.state = stateReclaimed
		b.inUse--
		b.open--
		delete(b.all, n)
	}
	b.dialLocked()
	b.mu.Unlock()
	for _, v := range victims {
		b.base.cut(v.n.sock) // unblocks a caller that reads or writes
		taken = append(taken, v.who())
		b.pending.End() // Stop does not wait until the holder returns it
	}
	return taken, out
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
