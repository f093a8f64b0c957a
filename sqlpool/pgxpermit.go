package sqlpool

import (
	"context"
	"errors"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/queue"
)

// permit says what a caller that asked for the right to a connection got.
type permit int

const (
	permitNone permit = iota // nothing: queue
	permitDial               // the right to a connection, which will have to be opened
	permitIdle               // the right to one that is idle
)

// reconcileEvery bounds how often waiting callers have pgxpool's counts looked at.
const reconcileEvery = 100 * time.Millisecond

// tryPermit does not wait. With permitIdle comes the context of the acquisition.
func (b *pgxBackend) tryPermit(ctx context.Context) (permit, *acquisition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting.Len() > 0 || !b.mayLocked() {
		b.peak = max(b.peak, b.permits+b.waiting.Len()+1)
		return permitNone, nil
	}
	idle := b.permits < b.open
	b.permits++
	b.events++
	b.peak = max(b.peak, b.permits)
	if idle {
		return permitIdle, b.acquisitionLocked(ctx)
	}
	return permitDial, nil
}

// mayLocked says whether one more caller may go on to pgxpool: within MaxOpen, and as far as what
// is idle and MaxDials reach. So a burst waits for the first connection that is ready, new or
// returned, and opens no more than it needs.
func (b *pgxBackend) mayLocked() bool {
	if b.paused > 0 || b.held || b.permits >= b.roomLocked() {
		return false
	}
	if b.permits < b.open {
		return true
	}
	most := b.base.pace.Window()
	if b.permits-b.open-b.slow >= most || b.dials-b.slow >= most {
		return false
	}
	wait := b.base.pace.Take()
	if wait > 0 {
		rearm(&b.dialLater, wait, b.grantAgain)
	}
	return wait == 0
}

// grantAgain lets callers go on that have waited for credit. The timer calls it; close stops that.
func (b *pgxBackend) grantAgain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grantLocked()
}

// roomLocked is how many connections there may be: MaxOpen, less what has been taken away from its
// holders and takes a place in pgxpool all the same.
func (b *pgxBackend) roomLocked() int { return min(b.max, b.base.cfg().MaxOpenCeiling-b.lost) }

func (b *pgxBackend) grantLocked() {
	for b.waiting.Len() > 0 && b.mayLocked() {
		w := b.waiting.PopInTime(b.base.metrics.shortUse.Load())
		if w == nil {
			return
		}
		b.permits++
		b.events++
		w.Grant(nil)
	}
	if b.waiting.Len() > 0 && b.paused == 0 && !b.held && b.permits >= b.roomLocked() && b.unservedLocked() == 0 {
		b.makeRoomLocked() // else a place is about to be free
	}
}

func (b *pgxBackend) givePermit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.permits--
	b.events++
	b.grantLocked()
}

// exchange gets a new permit for a caller whose idle connection turned out to be unusable. The
// caller is about to dial, and so needs a permit like every other caller. Otherwise all callers
// would dial at once after a server has ended all its sessions. The caller goes before those that
// wait already, because they asked later. If exchange fails, the caller keeps its permit, and
// TraceAcquireEnd gives it back.
func (b *pgxBackend) exchange(ctx context.Context, r *pgxConn, start time.Time) error {
	b.mu.Lock()
	r.discounted = true
	b.open--
	b.permits--
	b.events++
	if b.closed || b.held || b.mayLocked() { // a Pause waits for callers with permits
		b.permits++
		b.mu.Unlock()
		return nil
	}
	w := b.waiting.PushEarly()
	b.reconcileLaterLocked()
	b.mu.Unlock()
	err := b.permitted(ctx, w, start)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.permits++
		b.events++
	}
	return err
}

// grantEarlyLocked lets those go on whose connections a Pause would wait for.
func (b *pgxBackend) grantEarlyLocked() {
	for b.waiting.Len() > 0 && b.waiting.First().Early() {
		b.permits++
		b.events++
		b.waiting.Pop().Grant(nil)
	}
}

// awaitPermit queues, unless MaxWaiting callers do already.
func (b *pgxBackend) awaitPermit(ctx context.Context, start time.Time) error {
	b.mu.Lock()
	if d := b.base.down(); d != nil { // refuseAll may have come before
		b.mu.Unlock()
		return d
	}
	if b.base.tooMany(b.permits+b.waiting.Len(), b.roomLocked()) {
		b.mu.Unlock()
		return b.base.refused(b)
	}
	w := b.waiting.Push(ctx, start, nil)
	b.grantLocked()
	b.reconcileLaterLocked()
	b.mu.Unlock()
	return b.permitted(ctx, w, start)
}

// permitted waits for what w queues for.
func (b *pgxBackend) permitted(ctx context.Context, w *waiter, start time.Time) error {
	if g, ok := b.base.waitFor(ctx, w, start); ok {
		if errors.Is(g.Err, queue.ErrTooLate) {
			return b.base.tooLate(b, start)
		}
		return g.Err
	}
	b.mu.Lock()
	queued := b.waiting.Remove(w)
	b.mu.Unlock()
	failure := b.explained(ctx, start)
	if !queued {
		if g := w.Result(); g.Err == nil { // granted at the last moment: it belongs to the next in line
			b.givePermit()
		}
	}
	return failure
}

// reconcileLaterLocked keeps looking for hijacked connections as long as a caller waits. Nothing
// else would.
func (b *pgxBackend) reconcileLaterLocked() {
	if b.waiting.Len() == 0 || b.closed {
		return
	}
	if b.later == nil {
		// Owner: the backend. It ends when no caller waits; close stops it.
		b.later = time.AfterFunc(reconcileEvery, func() {
			b.reconcile()
			b.mu.Lock()
			defer b.mu.Unlock()
			b.later.Reset(reconcileEvery)
			if b.waiting.Len() == 0 || b.closed {
				b.later.Stop()
				b.later = nil
			}
		})
	}
}

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
