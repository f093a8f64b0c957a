package sqlpool

import (
	"context"
	"time"
)

// queue is the line of callers that wait for a connection: first in, first out. It has no lock of
// its own; its owner's mutex guards it and every waiter in it.
type queue struct {
	first, last *waiter
	n           int
	pushed      uint64 // how many have ever queued
}

// waiter is one caller in a queue.
type waiter struct {
	dial       func()     // opens a connection on its behalf, under its context
	ready      chan grant // buffered: a grant does not block
	queued     bool
	early      bool // it stands before all waiters that are not early
	number     uint64
	since, by  time.Time // when it queued, and its deadline; zero: it has none
	prev, next *waiter
}

// grant ends a wait: with a connection (on pgxpool, with the right to one), or with the reason why
// there is none.
type grant struct {
	n   *native
	err error
}

func (q *queue) push(ctx context.Context, start time.Time, dial func()) *waiter {
	q.pushed++
	w := &waiter{dial: dial, ready: make(chan grant, 1), queued: true, prev: q.last, number: q.pushed, since: start}
	w.by, _ = ctx.Deadline()
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
	q.n++
	return w
}

// pushEarly puts a caller in front, behind callers that pushEarly put there before.
func (q *queue) pushEarly() *waiter {
	q.pushed++
	w := &waiter{ready: make(chan grant, 1), queued: true, early: true, number: q.pushed}
	for next := q.first; next != nil && next.early; next = next.next {
		w.prev = next
	}
	if w.prev == nil {
		w.next, q.first = q.first, w
	} else {
		w.next, w.prev.next = w.prev.next, w
	}
	if w.next == nil {
		q.last = w
	} else {
		w.next.prev = w
	}
	q.n++
	return w
}

// pop takes out the caller that has waited longest, or returns nil.
func (q *queue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

// remove takes w out of the line. It reports false if w has been granted something already.
func (q *queue) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
	return true
}

// fail ends the waits of all callers that queued as one of the first pushed ones. Callers that came
// later wait on.
func (q *queue) fail(pushed uint64, err error) {
	for w := q.first; w != nil; {
		next := w.next
		if w.number <= pushed {
			q.remove(w)
			w.ready <- grant{err: err}
		}
		w = next
	}
}

// waitFor blocks until w is granted something, and reports false if ctx or AcquireTimeout ends
// first. The caller asked at start.
func (c *core) waitFor(ctx context.Context, w *waiter, start time.Time) (grant, bool) {
	var late <-chan time.Time
	if limit := c.cfg().AcquireTimeout; limit > 0 {
		t := time.NewTimer(limit - time.Since(start))
		defer t.Stop()
		late = t.C
	}
	defer func() {
		c.met.waits.Add(1)
		c.met.waited.Add(int64(time.Since(start)))
	}()
	select {
	case g := <-w.ready:
		return g, true
	case <-ctx.Done():
		return grant{}, false
	case <-late:
		return grant{}, false
	}
}
