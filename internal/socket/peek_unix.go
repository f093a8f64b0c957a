//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket

import "syscall"

// Peek looks at a socket without reading and without waiting, also while another goroutine waits to
// read. next is the first byte that is Unread. A nil c is Unknown.
func Peek(c syscall.Conn) (state State, next byte) {
	if c == nil {
		return Unknown, 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return Closed, 0
	}
	return PeekRaw(raw)
}

// PeekRaw is Peek for a caller that has the raw connection. One that shows no descriptor is
// Unknown.
func PeekRaw(raw syscall.RawConn) (state State, next byte) {
	var b [1]byte
	// Not raw.Read, which would wait for the reader.
	if raw.Control(func(fd uintptr) { state = peek(int(fd), b[:]) }) != nil {
		return Closed, 0
	}
	return state, b[0]
}

func peek(fd int, b []byte) State {
	n, _, errno := syscall.Recvfrom(fd, b, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case errno == nil && n == 0:
		return Closed
	case errno == nil:
		return Unread
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return Silent
	default:
		return Closed
	}
}
