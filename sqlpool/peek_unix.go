//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sqlpool

import (
	"net"
	"syscall"
)

// errorResponse begins the only message with which PostgreSQL ends a session of its own accord. On an idle connection
// nothing else but notices, notifications and changed settings can come in. No TLS record begins with this byte.
const errorResponse = 'E'

// peek looks at a connection without reading and without waiting.
func peek(c net.Conn) sign {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return signNone
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return signNone
	}
	seen := signNone
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, errno := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch errno {
		case nil:
			seen = signUnread
			if n == 0 || b[0] == errorResponse { // a server that ends a session says why before it hangs up
				seen = signGone
			}
		case syscall.EAGAIN, syscall.EINTR:
		default:
			seen = signGone
		}
	})
	if err != nil {
		return signGone
	}
	return seen
}
