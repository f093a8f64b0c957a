//go:build !unix

package redispool

import "syscall"

// hasUnread says that it cannot be told: leave the connection alone.
func hasUnread(syscall.Conn) bool { return true }
