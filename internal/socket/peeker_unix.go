//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket

import "syscall"

// Peeker looks at one socket again and again, without allocating. It is for one goroutine at a
// time.
type Peeker struct {
	raw   syscall.RawConn
	look  func(fd uintptr) // made once: a closure for each look would be allocated
	state State
	next  [1]byte
}

// NewPeeker returns a Peeker for raw.
func NewPeeker(raw syscall.RawConn) *Peeker {
	p := &Peeker{raw: raw}
	p.look = func(fd uintptr) { p.state = peek(int(fd), p.next[:]) }
	return p
}

// Peek is the function Peek for the Peeker's socket. A nil Peeker sees Unknown.
func (p *Peeker) Peek() (state State, next byte) {
	if p == nil {
		return Unknown, 0
	}
	p.next[0] = 0
	if p.raw.Control(p.look) != nil {
		return Closed, 0
	}
	return p.state, p.next[0]
}
