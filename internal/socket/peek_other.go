//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package socket

import "syscall"

// Peek cannot tell here.
func Peek(syscall.Conn) (state State, next byte) { return Unknown, 0 }

// PeekRaw cannot tell here.
func PeekRaw(syscall.RawConn) (state State, next byte) { return Unknown, 0 }
