//go:build !linux

package socket

import (
	"net"
	"time"
)

// LimitUnacknowledged does nothing and returns false: only Linux has TCP_USER_TIMEOUT.
func LimitUnacknowledged(net.Conn, time.Duration) bool { return false }
