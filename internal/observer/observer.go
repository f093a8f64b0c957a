// Package observer is the way from a pool's traffic to whoever wants to hear of it.
package observer

import (
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
)

// Slot holds the Observer of one pool, or none. Its zero value holds none. It is safe for concurrent use; to observe costs
// an atomic load when nobody listens.
type Slot struct {
	p atomic.Pointer[poolkeeper.Observer]
}

// Set has o hear of traffic from now on, instead of whoever did; nil: nobody does.
func (s *Slot) Set(o poolkeeper.Observer) {
	if o == nil {
		s.p.Store(nil)
		return
	}
	s.p.Store(&o)
}

// Observe tells the Observer, if there is one. It blocks for as long as that does.
func (s *Slot) Observe(err error) {
	if o := s.p.Load(); o != nil {
		(*o).Observe(err)
	}
}
