package health

import "syscall"

// errnoKind knows Winsock's codes, which the net package returns as they are.
func errnoKind(errno syscall.Errno) Kind {
	switch errno {
	case 10061: // WSAECONNREFUSED
		return KindRefused
	case 10053, 10054, 10057, 10058: // WSAECONNABORTED, WSAECONNRESET, WSAENOTCONN, WSAESHUTDOWN
		return KindReset
	case 10049, 10050, 10051, 10064, 10065: // WSAEADDRNOTAVAIL, WSAENETDOWN, WSAENETUNREACH, WSAEHOSTDOWN, WSAEHOSTUNREACH
		return KindUnreachable
	case 10060: // WSAETIMEDOUT
		return KindTimeout
	case 10024, 10055: // WSAEMFILE, WSAENOBUFS
		return KindResources
	}
	return KindNone
}

// dialErrnoKind knows codes that only mean something when an address was dialled.
func dialErrnoKind(errno syscall.Errno) Kind {
	if errno == 10013 { // WSAEACCES
		return KindAuthorization
	}
	return KindNone
}
