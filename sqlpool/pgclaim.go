package sqlpool

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// A permit stands for a place in pgxpool, and lives as long as that place is taken. pgxpool goes on
// without the caller in three cases: it opens the connection that the caller no longer waits for;
// it finishes a ping that the user's ShouldPing asked for; and it runs the user's AfterRelease
// before others may have the connection.

// claim is what pgxpool does for an acquisition right now. The backend's mutex guards it.
type claim struct {
	dialling bool // it opens a connection
	pinging  bool // it pings one, because of the user's ShouldPing
	left     bool // the caller has given up, and the dial has its permit
}

// claimOf returns the claim of the acquisition for which pgxpool does something under ctx; nil: it
// is not for a caller.
func (b *pgxBackend) claimOf(ctx context.Context) *claim {
	switch a := ctx.Value(waitKey{}).(type) {
	case *waitingContext:
		if a.b == b {
			return &a.claim
		}
	case *acquisition:
		if a.b == b {
			return &a.claim
		}
	}
	return nil
}

// dialBegins notes that pgxpool opens a connection under ctx.
func (b *pgxBackend) dialBegins(ctx context.Context) {
	cl := b.claimOf(ctx)
	if cl == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	cl.dialling, cl.pinging = true, false
}

// dialEnds notes that the connection is open, or will not be. The permit of a caller that has given
// up meanwhile is free.
func (b *pgxBackend) dialEnds(ctx context.Context) {
	cl := b.claimOf(ctx)
	if cl == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	cl.dialling = false
	if cl.left {
		cl.left = false
		b.permits--
		b.events++
		b.grantLocked()
	}
}

// givenUp books that a caller got no connection. Its permit is free, unless pgxpool goes on.
func (b *pgxBackend) givenUp(cl *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case cl != nil && cl.dialling:
		cl.left = true // dialEnds frees it
	case cl != nil && cl.pinging:
		b.pings++ // reconcile frees it
		b.reconcileLaterLocked()
	default:
		b.permits--
		b.events++
		b.grantLocked()
	}
}

// pingBegins notes that pgxpool pings a connection for an acquisition, until prepareConn or another
// attempt comes.
func (b *pgxBackend) pingBegins(ctx context.Context, begins bool) {
	cl := claimUnder(ctx)
	if cl == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	cl.pinging = begins
}

// claimUnder returns the claim of the acquisition whose own context ctx is.
func claimUnder(ctx context.Context) *claim {
	switch a := ctx.(type) {
	case *waitingContext:
		return &a.claim
	case *acquisition:
		if a.waiting != nil {
			return &a.waiting.claim
		}
		return &a.claim
	}
	return nil
}

// afterRelease runs the user's AfterRelease. Meanwhile pgxpool gives the connection to no other
// caller.
func (b *pgxBackend) afterRelease(c *pgx.Conn) bool {
	keep := true
	if user := b.target.Load().native.AfterRelease; user != nil {
		if b.base.callback("AfterRelease", func() { keep = user(c) }) != nil {
			keep = false
		}
	}
	r := connOf(c.PgConn())
	if r == nil {
		return keep
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.releasing {
		return keep
	}
	r.releasing = false
	b.holding--
	b.events++
	if !keep {
		r.owes, r.reason = true, poolkeeper.EvictedDead
		return false
	}
	now := time.Now()
	r.used, r.seen = now, now
	if b.retireLocked(r, now) {
		return false
	}
	acquired := b.pool.Stat().AcquiredConns()
	// Owner: the backend. It ends within a millisecond; close waits for it.
	b.pending.Go(func() {
		retry.Briefly(b.life, func() bool { return b.pool.Stat().AcquiredConns() < acquired })
		b.givePermit()
	})
	return true
}
