//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sqlpool

import "net"

// peek cannot know here.
func peek(net.Conn) sign { return signNone }
