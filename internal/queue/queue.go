// Package queue is the line of callers that wait for a connection: first in, first out.
//
//	Push ──▶ last … second  first ──▶ Pop: a Grant, or the reason why there is none
//	          PushEarly ────────▲
//
// A [Queue] has no lock of its own: its owner's mutex guards it. Granting never blocks, so that it
// can be done under that mutex. A queue refuses to know what it grants, how many callers may wait,
// and when a connection is free: its owner decides.
package queue

import (
	"context"
	"errors"
	"time"
)

// Queue is a line of callers that wait for a C. Its zero value is empty and ready. Its owner's
// mutex guards it.
type Queue[C any] struct {
	first, last *Waiter[C]
	n           int
	joined      uint64
}

// Waiter is one caller in a queue. The mutex of the queue's owner guards it, but for Wait and
// Result.
type Waiter[C any] struct {
	Dial func() // opens a connection on its behalf, under its context

	ready     chan Grant[C] // buffered: a grant does not block
	queued    bool
	early     bool // it stands before all waiters that are not early
	number    uint64
	since, by time.Time // when it queued, and its deadline; zero: it has none

	prev, next *Waiter[C]
}

// Grant ends a wait: with a connection, or with the reason why there is none.
type Grant[C any] struct {
	Conn C
	Err  error
}

// Len returns how many callers wait.
func (q *Queue[C]) Len() int { return q.n }

// Joined returns how many callers have ever queued.
func (q *Queue[C]) Joined() uint64 { return q.joined }

// First returns the caller that is next, or nil.
func (q *Queue[C]) First() *Waiter[C] { return q.first }

// Push puts a caller at the end of the line. It began to wait at since, and gives up with ctx.
func (q *Queue[C]) Push(ctx context.Context, since time.Time, dial func()) *Waiter[C] {
	q.joined++
	w := &Waiter[C]{Dial: dial, ready: make(chan Grant[C], 1), queued: true, prev: q.last, number: q.joined, since: since}
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

// PushEarly puts a caller in front, behind callers that PushEarly put there before.
func (q *Queue[C]) PushEarly() *Waiter[C] {
	q.joined++
	w := &Waiter[C]{ready: make(chan Grant[C], 1), queued: true, early: true, number: q.joined}
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

// Pop takes out the caller that is next, or returns nil.
func (q *Queue[C]) Pop() *Waiter[C] {
	w := q.first
	if w != nil {
		q.Remove(w)
	}
	return w
}

// ErrTooLate ends the wait of a caller that could only break a connection.
var ErrTooLate = errors.New("too late")

// PopInTime takes out the caller that is next and can still use a connection, if nearly all uses
// take longer than short. Callers whose deadline comes too soon for that are refused with
// ErrTooLate: a statement that is given up costs its connection, which the callers behind them
// need. A caller is refused only in the last half of its time.
func (q *Queue[C]) PopInTime(short time.Duration) *Waiter[C] {
	w := q.first
	if w == nil {
		return nil
	}
	for now := time.Now(); w != nil && w.tooLate(now, short); w = q.first {
		q.Remove(w)
		w.Refuse(ErrTooLate)
	}
	return q.Pop()
}

// Remove takes w out of the line. It reports false if w has been granted something already.
func (q *Queue[C]) Remove(w *Waiter[C]) bool {
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

// Fail ends the waits of all callers that queued as one of the first joined ones. Callers that came
// later wait on.
func (q *Queue[C]) Fail(joined uint64, err error) {
	for w := q.first; w != nil; {
		next := w.next
		if w.number <= joined {
			q.Remove(w)
			w.Refuse(err)
		}
		w = next
	}
}

// Early reports whether w was put in front.
func (w *Waiter[C]) Early() bool { return w.early }

// Queued reports whether w still waits.
func (w *Waiter[C]) Queued() bool { return w.queued }

// Grant ends the wait of w, which was taken out of the line, with c.
func (w *Waiter[C]) Grant(c C) { w.ready <- Grant[C]{Conn: c} }

// Refuse ends the wait of w, which was taken out of the line, with err.
func (w *Waiter[C]) Refuse(err error) { w.ready <- Grant[C]{Err: err} }

// Result returns what w was granted. It blocks until then. It must be called at most once, and not
// after Wait has returned true.
func (w *Waiter[C]) Result() Grant[C] { return <-w.ready }

// Wait blocks until w is granted something. It reports false if ctx ends first, or limit passes,
// which counts from since; 0: there is no limit.
func (w *Waiter[C]) Wait(ctx context.Context, since time.Time, limit time.Duration) (Grant[C], bool) {
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit - time.Since(since))
		defer t.Stop()
		late = t.C
	}
	select {
	case g := <-w.ready:
		return g, true
	case <-ctx.Done():
		return Grant[C]{}, false
	case <-late:
		return Grant[C]{}, false
	}
}

// tooLate reports whether a caller's deadline leaves less time than short, and less than half of
// what it had.
func (w *Waiter[C]) tooLate(now time.Time, short time.Duration) bool {
	if w.by.IsZero() || w.early {
		return false
	}
	return w.by.Sub(now) < min(short, w.by.Sub(w.since)/2)
}
