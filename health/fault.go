package health

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/poolkeeper/poolkeeper"
)

// Kind is the class of a failure: what went wrong, in one word that can be alerted on.
type Kind string

// Kinds of failure. Drivers' packages use the same ones; package quality adds its own.
const (
	KindNone               Kind = ""                     // no error
	KindUnknown            Kind = "unknown"              // an error nothing is known about
	KindRefused            Kind = "refused"              // no server listens at the address
	KindUnreachable        Kind = "unreachable"          // no route to the host or network
	KindDNS                Kind = "dns"                  // the name could not be resolved
	KindTimeout            Kind = "timeout"              // no answer in time
	KindHung               Kind = "hung"                 // the probe does not return, not even after its context ended
	KindCanceled           Kind = "canceled"             // the caller cancelled the work
	KindReset              Kind = "reset"                // the connection was closed or reset by the other side
	KindTLS                Kind = "tls"                  // certificate or handshake
	KindAuthentication     Kind = "authentication"       // wrong or missing user, password or certificate
	KindAuthorization      Kind = "authorization"        // known, but not allowed
	KindTooManyConnections Kind = "too-many-connections" // the server's limit of connections is reached
	KindReadOnly           Kind = "read-only"            // a replica, or a server set read-only
	KindPoolExhausted      Kind = "pool-exhausted"       // our own limit of connections is reached
	KindShuttingDown       Kind = "shutting-down"        // the server is going away
	KindStarting           Kind = "starting"             // the server is not ready yet: loading, recovering
	KindNotFound           Kind = "not-found"            // the database, keyspace or service does not exist
	KindResources          Kind = "resources"            // out of memory, disk or file descriptors
	KindClusterDown        Kind = "cluster-down"         // no quorum, slots not served, no primary known
	KindProtocol           Kind = "protocol"             // the other side does not speak the protocol
	KindDraining           Kind = "draining"             // our own pool is draining or closed
	KindPanic              Kind = "panic"                // the probe panicked
	KindStale              Kind = "stale"                // the last result is older than MaxAge
)

// Fault is a classified failure. It holds no part of the error's text, so it has no secret in it.
type Fault struct {
	Kind Kind
	// Advice is one line on what to look at first.
	Advice string
}

// FaultOf returns the fault of the kind with its general advice. Drivers' packages put better
// advice into a Fault of their own where they know more.
func FaultOf(k Kind) Fault { return Fault{Kind: k, Advice: k.advice()} }

// advice is the general line for a kind: what to look at first.
func (k Kind) advice() string {
	for _, a := range [...]struct {
		kind Kind
		line string
	}{
		{KindRefused, "nothing listens at that address: is the server up, are host and port right?"},
		{KindUnreachable, "no route to the host: check network, firewall and security groups"},
		{KindDNS, "the host name does not resolve: check the name and the resolver"},
		{KindTimeout, "no answer in time: the server is overloaded or frozen, or the network drops packets"},
		{KindHung, "the probe ignores its context: look at its goroutine in a goroutine dump"},
		{KindCanceled, "the work was cancelled from outside: usually a shutdown, not a fault of the server"},
		{KindReset, "the other side closed the connection: did the server, a proxy or a load balancer restart or time it out?"},
		{KindTLS, "the TLS handshake failed: check certificate, host name, expiry date and trusted roots"},
		{KindAuthentication, "the server rejects the credentials: check user and password, and whether they were rotated"},
		{KindAuthorization, "the user may not do this: check its grants"},
		{KindTooManyConnections, "the server's connection limit is reached: compare it with replicas × pool size"},
		{KindReadOnly, "the server does not take writes: did a failover turn it into a replica?"},
		{KindPoolExhausted, "every connection of our own pool is in use: look for leaks and slow queries before raising the limit"},
		{KindShuttingDown, "the server is going away: a restart or a failover is under way"},
		{KindStarting, "the server is not ready yet: it is loading or recovering, wait"},
		{KindNotFound, "what was asked for does not exist on the server: check the database name"},
		{KindResources, "memory, disk or file descriptors have run out, here or on the server"},
		{KindClusterDown, "the cluster has no quorum or no primary: look at its nodes"},
		{KindProtocol, "the other side does not speak the protocol: wrong port, or TLS on one side only?"},
		{KindDraining, "our own pool is shutting down: nothing to mend"},
		{KindPanic, "the probe panicked: a fault of its code"},
		{KindStale, "no result came in for longer than MaxAge: the scheduler is stuck or starved"},
	} {
		if a.kind == k {
			return a.line
		}
	}
	return ""
}

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
	if f, ok := ofOurs(err); ok {
		return f
	}
	if f, ok := ofTLS(err); ok {
		return f
	}
	return FaultOf(kindOf(err))
}

// ofOurs is for errors of a pool that is shutting down.
func ofOurs(err error) (Fault, bool) {
	ours := errors.Is(err, poolkeeper.ErrDraining) || errors.Is(err, poolkeeper.ErrClosed)
	return FaultOf(KindDraining), ours
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
