//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sqlpool

import (
	"net"
	"syscall"
)

// errorResponse begins the only message with which PostgreSQL ends a session of its own accord. On an idle connection
// nothing else but notices, notifications and changed settings can come in. No TLS record begins with this byte.
const errorResponse = 'E'

// hungUp looks, without reading and without waiting, whether the other side has closed the connection, or has said that it does.
// It reports false where it cannot know.
func hungUp(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, errno := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch errno {
		case nil:
			// A server that ends a session says why before it hangs up: the end of the stream is behind unread bytes.
			gone = n == 0 || b[0] == errorResponse || finished(int(fd))
		case syscall.EAGAIN, syscall.EINTR:
		default:
			gone = true
		}
	})
	return gone || err != nil
}
