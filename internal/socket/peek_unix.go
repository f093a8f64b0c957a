//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket

import "syscall"

// Peek looks at a socket without reading and without waiting, also while somebody else waits to read. next is the first
// byte that is Unread. A nil c is Unknown.
func Peek(c syscall.Conn) (state State, next byte) {
	if c == nil {
		return Unknown, 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return Closed, 0
	}
	var b [1]byte
	// Not raw.Read, which would wait for the reader.
	err = raw.Control(func(fd uintptr) {
		n, _, errno := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch errno {
		case nil:
			state = Unread
			if n == 0 {
				state = Closed
			}
		case syscall.EAGAIN, syscall.EINTR:
			state = Silent
		default:
			state = Closed
		}
	})
	if err != nil {
		return Closed, 0
	}
	return state, b[0]
}
