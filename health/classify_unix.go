//go:build !windows

package health

import "syscall"

func errnoKind(errno syscall.Errno) Kind {
	switch errno {
	case syscall.ECONNREFUSED, syscall.ENOENT: // ENOENT: the path of a Unix socket
		return KindRefused
	case syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENOTCONN:
		return KindReset
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EADDRNOTAVAIL:
		return KindUnreachable
	case syscall.ETIMEDOUT:
		return KindTimeout
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ENOSPC:
		return KindResources
	case syscall.EACCES, syscall.EPERM: // a Unix socket's permissions, or a local firewall
		return KindAuthorization
	}
	return KindNone
}
