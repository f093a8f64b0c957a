//go:build unix

package redispool

import "syscall"

// hasUnread reports whether bytes have arrived on the socket that nobody has read. It may be asked while somebody else
// waits for them.
func hasUnread(socket syscall.Conn) bool {
	if socket == nil {
		return true // it cannot be told: leave it alone
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	unread := false
	// Not raw.Read, which would wait for the reader.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, perr := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		unread = perr == nil && n > 0
	})
	return err == nil && unread
}
