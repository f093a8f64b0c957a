//go:build !windows

package health

import "syscall"

func errnoKind(errno syscall.Errno) Kind {
	switch errno { //nolint:exhaustive // an open set: what is not named says nothing about a server
	case syscall.ECONNREFUSED:
		return KindRefused
	case syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENOTCONN:
		return KindReset
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EADDRNOTAVAIL:
		return KindUnreachable
	case syscall.ETIMEDOUT:
		return KindTimeout
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ENOSPC:
		return KindResources
	}
	return KindNone
}

// dialErrnoKind knows codes that only mean something when an address was dialled: the path of a
// Unix socket.
func dialErrnoKind(errno syscall.Errno) Kind {
	switch errno { //nolint:exhaustive // an open set, as above
	case syscall.ENOENT:
		return KindRefused
	case syscall.EACCES, syscall.EPERM:
		return KindAuthorization
	}
	return KindNone
}
