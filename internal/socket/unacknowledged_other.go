//go:build !linux

package socket

import (
	"net"
	"time"
)

// LimitUnacknowledged is not possible here.
func LimitUnacknowledged(net.Conn, time.Duration) bool { return false }
