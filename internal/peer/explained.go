package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// ExplainedError is an error of a first connection, with what Identify found out about the server.
// Fault is a health.Fault, which this package cannot name.
type ExplainedError[Fault any] struct {
	Err     error
	Finding string
	Fault   Fault
}

// Error is the connection's error, followed by the finding.
func (e *ExplainedError[_]) Error() string { return fmt.Sprintf("%v; %s", e.Err, e.Finding) }

// Unwrap returns the connection's error.
func (e *ExplainedError[_]) Unwrap() error { return e.Err }

// Settled reports whether err shows that asking for another protocol is in vain: nothing listens, or
// the two sides speak TLS with each other and one of them rejects the other.
func Settled(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "dial" || e.Op == "remote error") {
		return true
	}
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}
