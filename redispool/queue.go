package redispool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// permits grants permits, one for each connection that the pool may open, in order of arrival. A
// caller takes one before it asks go-redis for a connection, so that no caller waits inside
// go-redis, where it could not be woken. While the pool is paused, or goes through its idle
// connections, the queue grants none. A free permit costs two atomic operations.
type permits struct {
	busy   atomic.Int64 // permits granted; for a moment more, by callers that find it full
	limit  atomic.Int64 // how many there are; 0: no limit
	active atomic.Bool  // paused or held, or with a queue: permits are granted under mu only

	met  *metrics        // count how long callers queue
	gate *inflight.Gate  // is joined for each caller that has queued; nil: none
	stop <-chan struct{} // closed when the pool's life ends

	mu     sync.Mutex // guards the following
	paused bool
	held   bool      // for a moment: the pool goes through what is idle
	size   int       // callers held up by a pause go on in order, this many at a time; 0: up to limit
	queue  list.List // of *waiter
}

// waiter is a caller in the queue. ready is closed when its wait is over.
type waiter struct {
	ready chan struct{}
	err   error // why it got no permit; nil: it has one
}

// queueing says how a caller waits.
type queueing struct {
	limit   time.Duration // the most it waits; 0: until its context ends
	waited  time.Duration // how much of the limit has passed before
	most    int           // MaxWaiting
	mayWait func() error  // asked once it is in the queue; an error ends its wait; nil: it may
	found   func() bool   // asked every recheckInterval; true ends the wait with errSessionFound; nil: never
}

// set changes what holds callers up, and grants what it can.
func (v *permits) set(change func(v *permits)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(v)
	v.grantLocked()
}

func (v *permits) isPaused() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.paused
}

// isFull reports whether all permits are granted.
func (v *permits) isFull() bool {
	limit := v.limit.Load()
	return limit > 0 && v.busy.Load() >= limit
}

func (v *permits) waiting() int {
	if !v.active.Load() {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.queue.Len()
}

// tryAcquire takes a permit if one is free and no caller waits. After true the caller owes a release.
func (v *permits) tryAcquire() bool {
	if v.active.Load() {
		return false
	}
	n := v.busy.Add(1)
	if limit := v.limit.Load(); (limit == 0 || n <= limit) && !v.active.Load() {
		return true
	}
	v.release()
	return false
}

// acquireAnyway takes a permit that may not be there, for a caller that has a connection already.
func (v *permits) acquireAnyway() { v.busy.Add(1) }

// acquire waits for a permit. After nil the caller owes a release, and the queue has joined the gate for
// it.
func (v *permits) acquire(ctx context.Context, q queueing) error {
	w := &waiter{ready: make(chan struct{})}
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
	case <-w.ready:
		return w.err
	default:
	}
	begun := monotime.Now()
	defer func() { v.met.waited(monotime.Since(begun)) }()
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
		t := time.NewTicker(recheckInterval)
		defer t.Stop()
		look = t.C
	}
	for {
		select {
		case <-w.ready:
			return w.err
		case <-ctx.Done():
			return v.withdraw(e, w, acquire.GaveUp(ctx))
		case <-over:
			return v.withdraw(e, w, timeIsOver(q.limit))
		case <-v.stop:
			return v.withdraw(e, w, errLifeEnded)
		case <-look:
			if q.found() {
				return v.withdraw(e, w, errSessionFound)
			}
		}
	}
}

// withdraw ends a wait with err, and returns a permit that was granted at the same moment.
func (v *permits) withdraw(e *list.Element, w *waiter, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-w.ready:
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
func (v *permits) tooManyLocked(last *list.Element, most int) bool {
	limit := int(v.limit.Load())
	if most == 0 || limit == 0 || v.queue.Back() != last {
		return false
	}
	free := max(limit-int(v.busy.Load()), 0)
	return v.queue.Len() > free+max(most, 0)
}

// fail ends the waits of all callers in the queue, but not of those held up by a pause.
func (v *permits) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.paused {
		return
	}
	for e := v.queue.Front(); e != nil; e = v.queue.Front() {
		w, _ := v.queue.Remove(e).(*waiter)
		w.err = err
		close(w.ready)
	}
	v.grantLocked()
}

// release returns a permit.
func (v *permits) release() {
	v.busy.Add(-1)
	if v.active.Load() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.grantLocked()
	}
}

func (v *permits) openLocked() bool {
	limit := v.limit.Load()
	if limit == 0 {
		limit = int64(v.size)
	}
	return !v.paused && !v.held && (limit == 0 || v.busy.Load() < limit)
}

func (v *permits) grantLocked() {
	for e := v.queue.Front(); e != nil && v.openLocked(); e = v.queue.Front() {
		w, _ := v.queue.Remove(e).(*waiter)
		v.busy.Add(1)
		if v.gate != nil {
			v.gate.Join()
		}
		close(w.ready)
	}
	v.active.Store(v.paused || v.held || v.queue.Len() > 0)
}

// closedConnsEvery is how often a queue looks for Conns that were closed: go-redis does not say.
const closedConnsEvery = 2 * time.Millisecond

// errLifeEnded ends waits when the pool's life ends. No caller sees it.
var errLifeEnded = errors.New("redispool: the pool's life has ended")

// admit lets a command of the client itself in, with a permit. waited is how long it has queued for
// that, added to what it waited before. After nil the caller owes a dismiss.
func (n *node) admit(ctx context.Context, before time.Duration) (waited time.Duration, err error) {
	if n.breaker.Down() != nil {
		if err := n.refused(); err != nil {
			n.met.count(refusals)
			return before, err
		}
	}
	switch {
	case !n.ownsGate: // the ClusterClient's hook has let the command in
		if !n.used.Load() {
			n.used.Store(true)
		}
		n.gate.Join()
	case !n.gate.Enter():
		return before, n.pool.refusal()
	}
	if n.permits.tryAcquire() { // in the gate: Pause stops permits first and then counts the callers in it
		return before, nil
	}
	n.gate.Leave()
	return n.queue(ctx, before, nil)
}

// dismiss ends a command that admit let in.
func (n *node) dismiss() {
	n.permits.release() // before it leaves the gate, so that the next caller is in it already
	n.gate.Leave()
}

// queue waits for a permit. waited includes what the caller waited before. After nil it owes a
// dismiss. If found is not nil and reports true meanwhile, queue returns errSessionFound.
func (n *node) queue(ctx context.Context, before time.Duration, found func() bool) (waited time.Duration, err error) {
	if n.lent.Load() > 0 {
		if n.permits.isFull() {
			n.rotate(ctx) // a Conn that was closed may still count
		}
		n.noticeClosed()
	}
	begun, heldUp := time.Now(), n.permits.isPaused()
	err = n.permits.acquire(ctx, queueing{
		limit: n.pool.cfg.AcquireTimeout, waited: before, most: n.pool.config().MaxWaiting, mayWait: n.mayWait,
		found: found,
	})
	waited = before + time.Since(begun)
	if err == nil && heldUp && n.ownsGate && n.gate.Closed() {
		n.dismiss() // it was not in flight when the drain began
		return waited, n.pool.refusal()
	}
	if err != nil && err != errSessionFound { //nolint:errorlint // it is bare
		err = n.notAdmitted(err, waited)
	}
	return waited, err
}

// mayWait is asked once a caller is in the queue, where a drain counts it, and an end of waits
// finds it.
func (n *node) mayWait() error {
	if n.ownsGate && n.gate.Closed() {
		return n.pool.refusal()
	}
	return n.refused()
}

// notAdmitted turns the end of a wait for a permit into what the caller gets.
func (n *node) notAdmitted(err error, waited time.Duration) error {
	switch {
	case errors.Is(err, errLifeEnded):
		return n.pool.refusal()
	case errors.Is(err, poolkeeper.ErrDraining), errors.Is(err, poolkeeper.ErrClosed):
		return err
	}
	if down, ok := errors.AsType[*poolkeeper.DownError](err); ok {
		n.met.count(refusals)
		return n.delivered(down)
	}
	out := n.gaveUpAfter(err, waited)
	if n.permits.isPaused() || n.pool.permits.isPaused() {
		out.Err = fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err)
	}
	return out
}

// noticeClosed looks for Conns that were closed as long as callers queue and Conns hold permits.
func (n *node) noticeClosed() {
	if !n.noticing.CompareAndSwap(false, true) {
		return
	}
	// The timer's function ends with the queue, or with the pool's life; Stop waits for it as for a
	// dial.
	time.AfterFunc(closedConnsEvery, func() {
		n.noticing.Store(false)
		if !n.pool.dialing.Enter() {
			return
		}
		defer n.pool.dialing.Leave()
		if n.lent.Load() == 0 || n.permits.waiting() == 0 {
			return
		}
		if n.idle() > 0 {
			n.rotate(n.pool.life)
		}
		n.noticeClosed()
	})
}

// waitOutPause is for sessions of a Cluster's node, whose queue knows of permits only. waited
// includes what the caller waited before.
func (n *node) waitOutPause(ctx context.Context, before time.Duration) (waited time.Duration, err error) {
	if n.ownsGate || !n.pool.permits.active.Load() {
		return before, nil
	}
	begun := time.Now()
	err = n.pool.permits.acquire(ctx, queueing{limit: n.pool.cfg.AcquireTimeout, waited: before})
	waited = before + time.Since(begun)
	if err != nil {
		return waited, n.notAdmitted(err, waited)
	}
	n.pool.permits.release()
	return waited, nil
}
