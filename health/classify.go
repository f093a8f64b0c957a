package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/poolkeeper/poolkeeper"
)

// Classify says what kind of failure err is, and what to look at first. An error anywhere in its
// chain with a method HealthFault() Fault answers for itself: this is how drivers' errors are
// classified without health knowing any driver. Then come the errors of the standard library:
// context, net, TLS, system calls. nil is KindNone.
func Classify(err error) Fault {
	if err == nil {
		return Fault{}
	}
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		return ofAcquire(e)
	}
	if f, ok := errors.AsType[interface {
		error
		HealthFault() Fault
	}](err); ok {
		return f.HealthFault()
	}
	return FaultOf(kindOf(err))
}

// ofAcquire tells an exhausted pool from a server that cannot be reached.
func ofAcquire(e *poolkeeper.AcquireError) Fault {
	switch {
	case e.DialErr != nil:
		return Classify(e.DialErr)
	case errors.Is(e.Err, poolkeeper.ErrAcquireTimeout), errors.Is(e.Err, poolkeeper.ErrTooManyWaiting):
		return FaultOf(KindPoolExhausted)
	default:
		return Classify(e.Err)
	}
}

func kindOf(err error) Kind {
	if errors.Is(err, poolkeeper.ErrDraining) || errors.Is(err, poolkeeper.ErrClosed) {
		return KindDraining
	}
	if isTLS(err) {
		return KindTLS
	}
	if k := syscallKind(err); k != KindNone {
		return k
	}
	if has[*net.DNSError](err) { // also when it is the resolver that does not answer in time
		return KindDNS
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return KindTimeout
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return KindTimeout
	}
	if errors.Is(err, context.Canceled) {
		return KindCanceled
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) {
		return KindReset
	}
	return KindUnknown
}

func isTLS(err error) bool {
	return has[*tls.CertificateVerificationError](err) || has[tls.RecordHeaderError](err) ||
		has[tls.AlertError](err) || has[x509.UnknownAuthorityError](err) || has[x509.HostnameError](err) ||
		has[x509.CertificateInvalidError](err) || has[x509.SystemRootsError](err)
}

func has[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func syscallKind(err error) Kind {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return KindNone
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		if k := dialErrnoKind(errno); k != KindNone {
			return k
		}
	}
	return errnoKind(errno)
}
