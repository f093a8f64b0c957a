package sqlpool

import (
	"errors"
	"sync/atomic"
	"time"
)

// shortUse estimates how long nearly all uses of a connection take: the duration that one in ten
// stays below. It costs two atomic operations and follows the last hundred uses or so. Its zero
// value is ready.
type shortUse struct{ ns atomic.Int64 }

// note takes one more use into account: each step up is a ninth of a step down, so that the
// estimate rests where one in ten lies below. A step that is lost to a concurrent one does not
// matter.
func (u *shortUse) note(d time.Duration) {
	const slow = 160 // for each step
	old, now := u.ns.Load(), int64(d)
	switch {
	case old == 0:
		u.ns.Store(max(now, 1))
	case now < old:
		u.ns.Store(max(old-9*old/slow, 1))
	default:
		u.ns.Store(old + old/slow + 1)
	}
}

func (u *shortUse) get() time.Duration { return time.Duration(u.ns.Load()) }

// errTooLate ends the wait of a caller that could only break a connection. It is replaced by an
// AcquireError.
var errTooLate = errors.New("too late")

// popInTime takes out the caller that has waited longest and can still use a connection, if nearly
// all uses take longer than short. Those whose deadline comes too soon for that give up now: a
// statement that is given up costs its connection, which the callers behind them need. A caller is
// given up only in the last half of its time.
func (q *queue) popInTime(short time.Duration) *waiter {
	w := q.first
	if w == nil {
		return nil
	}
	for now := time.Now(); w != nil && w.tooLate(now, short); w = q.first {
		q.remove(w)
		w.ready <- grant{err: errTooLate}
	}
	return q.pop()
}

// tooLate reports whether a caller's deadline leaves less time than short, and less than half of
// what it had.
func (w *waiter) tooLate(now time.Time, short time.Duration) bool {
	if w.by.IsZero() || w.early {
		return false
	}
	return w.by.Sub(now) < min(short, w.by.Sub(w.since)/2)
}
