//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sqlpool

import "net"

// hungUp cannot know here.
func hungUp(net.Conn) bool { return false }
