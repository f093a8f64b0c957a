package redispool

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// valve grants permits, one for each connection that the pool may open, in order of arrival. A
// caller takes one before it asks go-redis for a connection, so that no caller waits inside
// go-redis, where it could not be woken. While the pool is paused, or goes through its idle
// connections, the valve grants none. A free permit costs two atomic operations.
type valve struct {
	busy   atomic.Int64 // permits granted; for a moment more, by callers that find it full
	limit  atomic.Int64 // how many there are; 0: no limit
	active atomic.Bool  // paused or shut, or with a queue: permits are granted under mu only

	wait *histogram.Recorder // how long callers queue
	gate *inflight.Gate      // is joined for each caller that has queued; nil: none
	stop <-chan struct{}     // closed when the pool's life ends

	mu     sync.Mutex // guards the following
	paused bool
	shut   bool      // for a moment: the pool goes through what is idle
	size   int       // callers held up by a pause go on in order, this many at a time; 0: up to limit
	queue  list.List // of *waiter
}

// waiter is a caller in the queue. turn is closed when its wait is over.
type waiter struct {
	turn chan struct{}
	err  error // why it got no permit; nil: it has one
}

// queueing says how a caller waits.
type queueing struct {
	limit   time.Duration // the most it waits; 0: until its context ends
	waited  time.Duration // how much of the limit has passed before
	most    int           // MaxWaiting
	mayWait func() error  // asked once it is in the queue; an error ends its wait; nil: it may
	found   func() bool   // asked every lookElsewhere; true ends the wait with errElsewhere; nil: never
}

// set changes what holds callers up, and grants what it can.
func (v *valve) set(change func(v *valve)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(v)
	v.grantLocked()
}

func (v *valve) isPaused() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.paused
}

// isFull reports whether all permits are granted.
func (v *valve) isFull() bool {
	limit := v.limit.Load()
	return limit > 0 && v.busy.Load() >= limit
}

func (v *valve) waiting() int {
	if !v.active.Load() {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.queue.Len()
}

// tryPass takes a permit if one is free and no caller waits. After true the caller owes a done.
func (v *valve) tryPass() bool {
	if v.active.Load() {
		return false
	}
	n := v.busy.Add(1)
	if limit := v.limit.Load(); (limit == 0 || n <= limit) && !v.active.Load() {
		return true
	}
	v.done()
	return false
}

// overdraw takes a permit that may not be there, for a caller that has a connection already.
func (v *valve) overdraw() { v.busy.Add(1) }

// pass waits for a permit. After nil the caller owes a done, and the valve has joined the gate for
// it.
func (v *valve) pass(ctx context.Context, q queueing) error {
	w := &waiter{turn: make(chan struct{})}
	v.mu.Lock()
	e := v.queue.PushBack(w)
	v.active.Store(true) // before the permits are counted: a caller that returns one from now on grants it
	v.grantLocked()
	if v.tooManyLocked(e, q.most) {
		v.queue.Remove(e)
		v.grantLocked()
		v.mu.Unlock()
		return acquire.Refused(q.most)
	}
	v.mu.Unlock()
	select {
	case <-w.turn:
		return w.err
	default:
	}
	begun := monotime.Now()
	defer func() { v.wait.Record(monotime.Since(begun)) }()
	if q.mayWait != nil {
		if err := q.mayWait(); err != nil {
			return v.withdraw(e, w, err)
		}
	}
	var over <-chan time.Time
	if q.limit > 0 {
		t := time.NewTimer(q.limit - q.waited)
		defer t.Stop()
		over = t.C
	}
	var look <-chan time.Time
	if q.found != nil {
		t := time.NewTicker(lookElsewhere)
		defer t.Stop()
		look = t.C
	}
	for {
		select {
		case <-w.turn:
			return w.err
		case <-ctx.Done():
			return v.withdraw(e, w, acquire.GaveUp(ctx))
		case <-over:
			return v.withdraw(e, w, timeIsOver(q.limit))
		case <-v.stop:
			return v.withdraw(e, w, errLifeEnded)
		case <-look:
			if q.found() {
				return v.withdraw(e, w, errElsewhere)
			}
		}
	}
}

// withdraw ends a wait with err, and returns a permit that was granted at the same moment.
func (v *valve) withdraw(e *list.Element, w *waiter, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-w.turn:
		if w.err != nil {
			return w.err
		}
		v.busy.Add(-1)
		if v.gate != nil {
			v.gate.Leave()
		}
	default:
		v.queue.Remove(e)
	}
	v.grantLocked()
	return err
}

// tooManyLocked reports whether the caller at the end of the queue is one more than may wait.
// Callers for which there is a permit, and that are held up for another reason, do not count.
func (v *valve) tooManyLocked(last *list.Element, most int) bool {
	limit := int(v.limit.Load())
	if most == 0 || limit == 0 || v.queue.Back() != last {
		return false
	}
	free := max(limit-int(v.busy.Load()), 0)
	return v.queue.Len() > free+max(most, 0)
}

// fail ends the waits of all callers in the queue, but not of those held up by a pause.
func (v *valve) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.paused {
		return
	}
	for e := v.queue.Front(); e != nil; e = v.queue.Front() {
		w, _ := v.queue.Remove(e).(*waiter)
		w.err = err
		close(w.turn)
	}
	v.grantLocked()
}

// done returns a permit.
func (v *valve) done() {
	v.busy.Add(-1)
	if v.active.Load() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.grantLocked()
	}
}

func (v *valve) openLocked() bool {
	limit := v.limit.Load()
	if limit == 0 {
		limit = int64(v.size)
	}
	return !v.paused && !v.shut && (limit == 0 || v.busy.Load() < limit)
}

func (v *valve) grantLocked() {
	for e := v.queue.Front(); e != nil && v.openLocked(); e = v.queue.Front() {
		w, _ := v.queue.Remove(e).(*waiter)
		v.busy.Add(1)
		if v.gate != nil {
			v.gate.Join()
		}
		close(w.turn)
	}
	v.active.Store(v.paused || v.shut || v.queue.Len() > 0)
}
