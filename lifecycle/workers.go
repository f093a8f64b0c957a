package lifecycle

import (
	"runtime/pprof"
)

// callQueue is the calls that may begin, in order.
type callQueue struct{ first, last *call }

func (q *callQueue) push(c *call) {
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
}

func (q *callQueue) pop() *call {
	c := q.first
	if c == nil {
		return nil
	}
	q.first, c.next = c.next, nil
	if q.first == nil {
		q.last = nil
	}
	return c
}

// unlock unlocks Registry.mu, and sees to it that what is queued gets a goroutine. It is how the
// lock is left wherever calls may have been queued.
//
// A component may block for as long as it likes, so there must always be one goroutine more on its
// way than there are components being called, as long as there are calls in the queue. A goroutine
// that comes back from its component takes the next call itself. So components that block run all
// at the same time, each on a goroutine of its own, while thousands that do not share a few.
func (r *Registry) unlock() {
	hire := r.queue.first != nil && !r.hired
	if hire {
		r.hired = true
	}
	r.mu.Unlock()
	if hire {
		go r.callComponents(nil)
	}
}

// nextLocked takes the next call from the queue. Its time begins now: waiting for a goroutine is no
// fault of its component.
func (r *Registry) nextLocked(now instant) *call {
	c := r.queue.pop()
	if c != nil && c.pass != nil {
		c.began, c.entered = now, now
		c.pass.adoptLocked(c, now)
		c.deadline = c.ends
		if c.pass.stale {
			c.pass.poke()
		}
	}
	return c
}

// callComponents goes through the phases of c, and then of what else is queued. Owner: the
// registry; it ends when the queue is empty and its component's functions have returned, whose
// contexts end; the pass waits for it until it gives the component up. If a component calls
// runtime.Goexit, the rest is done on another goroutine.
func (r *Registry) callComponents(c *call) {
	defer func() {
		if c != nil {
			go r.callComponents(c)
		}
	}()
	if c == nil {
		r.mu.Lock()
		r.hired = false
		c = r.nextLocked(r.now())
		r.unlock()
	}
	for labeled := (*call)(nil); c != nil; {
		if c != labeled {
			pprof.SetGoroutineLabels(c.n.labels)
			labeled = c
		}
		r.callPhase(&c)
	}
}
