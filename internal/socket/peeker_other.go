//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package socket

import "syscall"

// Peeker cannot tell here.
type Peeker struct{}

// NewPeeker returns nil: there is nothing that can be seen.
func NewPeeker(syscall.RawConn) *Peeker { return nil }

// Peek returns Unknown.
func (*Peeker) Peek() (state State, next byte) { return Unknown, 0 }
