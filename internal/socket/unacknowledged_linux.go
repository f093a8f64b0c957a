package socket

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7). Package syscall lacks it.
const tcpUserTimeout = 0x12

// LimitUnacknowledged makes the kernel close a TCP connection whose peer acknowledges nothing for d.
// It reports whether the connection allows that.
func LimitUnacknowledged(c net.Conn, d time.Duration) bool {
	raw := rawOf(c)
	if raw == nil {
		return false
	}
	err := net.ErrClosed
	if raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(max(d.Milliseconds(), 1)))
	}) != nil {
		return false
	}
	return err == nil
}
