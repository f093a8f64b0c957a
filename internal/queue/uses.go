package queue

import (
	"sync/atomic"
	"time"
)

// ShortUse estimates how long nearly all uses of a connection take: the duration that one in ten
// stays below. It costs two atomic operations and follows the last hundred uses or so. Its zero
// value is ready. It is safe for concurrent use.
type ShortUse struct{ ns atomic.Int64 }

// Record takes one more use into account. Each step up is a ninth of a step down, so that the
// estimate rests where one in ten lies below. A step that is lost to a concurrent one does not
// matter.
func (u *ShortUse) Record(d time.Duration) {
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

// Load returns the estimate. It is 0 before the first use.
func (u *ShortUse) Load() time.Duration { return time.Duration(u.ns.Load()) }
