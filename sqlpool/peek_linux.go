package sqlpool

import (
	"encoding/binary"
	"syscall"
)

// tcpEstablished is TCP_ESTABLISHED of linux/tcp_states.h.
const tcpEstablished = 1

// finished says whether the other side has closed its half of a TCP connection, even if bytes from before are still to
// be read: under TLS their meaning is hidden.
func finished(fd int) bool {
	info, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return false // a Unix socket
	}
	var b [4]byte                                     // the beginning of struct tcp_info, whose first byte is the state
	binary.NativeEndian.PutUint32(b[:], uint32(info)) //nolint:gosec // the same bits
	return b[0] != tcpEstablished
}
