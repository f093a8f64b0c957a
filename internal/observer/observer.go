// Package observer reports a pool's traffic to an Observer.
package observer

import (
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Slot holds the Observer of one pool, or none. Its zero value holds none. It is safe for
// concurrent use. Without an Observer, a report costs one atomic load.
type Slot struct {
	// OnPanic is told when the Observer has panicked, or has ended its goroutine. It is set before
	// the Slot is used. Nil: the panic is dropped.
	OnPanic func(error)

	p atomic.Pointer[poolkeeper.Observer]
}

// Set makes o the Observer of all traffic from now on. o replaces the previous Observer; nil: none.
func (s *Slot) Set(o poolkeeper.Observer) {
	if o == nil {
		s.p.Store(nil)
		return
	}
	s.p.Store(&o)
}

// Observe tells the Observer, if there is one. It blocks for as long as that does. A panic of the
// Observer, or a Goexit, does not reach the caller.
func (s *Slot) Observe(err error) {
	if o := s.p.Load(); o != nil {
		s.failed(guard.Call(func() { (*o).Observe(err) }))
	}
}

// Succeeded is Observe(nil) for the frequent case, on the goroutine of a caller of the pool: it
// allocates nothing. A Goexit of the Observer ends that goroutine.
func (s *Slot) Succeeded() {
	if o := s.p.Load(); o != nil {
		s.failed(guard.Catch(func() { (*o).Observe(nil) }))
	}
}

func (s *Slot) failed(err error) {
	if err != nil && s.OnPanic != nil {
		s.OnPanic(err)
	}
}
