package health

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// ofTLS says what went wrong in a TLS handshake. It reports false for other errors.
func ofTLS(err error) (Fault, bool) {
	if f, ok := ofCertificate(err); ok {
		return f, true
	}
	if has[tls.RecordHeaderError](err) {
		return Fault{KindTLS, "the other side answers without TLS: give the port that speaks TLS, or turn TLS off"}, true
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		switch e.Op {
		case "remote error":
			return ofAlert(e.Err), true
		case "local error": // our side sent the alert
			return FaultOf(KindTLS), true
		}
	}
	return FaultOf(KindTLS), has[tls.AlertError](err)
}

// ofCertificate is for certificates of the server that do not pass.
func ofCertificate(err error) (Fault, bool) {
	switch {
	case has[x509.UnknownAuthorityError](err):
		return Fault{KindTLS, "the server's certificate is signed by an authority that is not trusted here: trust it (TLSFiles.CA)"}, true
	case has[x509.HostnameError](err):
		return Fault{KindTLS, "the server's certificate is for other names: connect by one of them, or set ServerName"}, true
	case has[x509.SystemRootsError](err):
		return Fault{KindTLS, "this system has no trusted authorities: install them, or set TLSFiles.CA"}, true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return Fault{KindTLS, "the server's certificate has expired, or is not valid yet: renew it, and compare the clocks"}, true
	}
	return FaultOf(KindTLS), has[x509.CertificateInvalidError](err) || has[*tls.CertificateVerificationError](err)
}

// Alerts of TLS that are about the client's certificate (RFC 8446, 6.2).
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertUnsupported         = 43
	alertRevoked             = 44
	alertExpired             = 45
	alertCertificateUnknown  = 46
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertCertificateRequired = 116
)

// ofAlert is for alerts that the other side has sent. crypto/tls keeps their type to itself, but
// prints them as it does a tls.AlertError.
func ofAlert(alert error) Fault {
	is := func(numbers ...tls.AlertError) bool {
		for _, n := range numbers {
			if alert.Error() == n.Error() {
				return true
			}
		}
		return false
	}
	switch {
	case is(alertCertificateRequired):
		return Fault{KindAuthentication, "the server demands a client certificate, and none was presented: set TLSFiles.Cert and TLSFiles.Key"}
	case is(alertBadCertificate, alertUnsupported, alertRevoked, alertExpired, alertCertificateUnknown, alertUnknownCA, alertAccessDenied):
		return Fault{KindAuthentication, "the server rejects the client certificate: is it present, not expired, and signed by an authority that the server trusts?"}
	case is(alertHandshakeFailure):
		return Fault{KindTLS, "the server ends the TLS handshake: it demands a client certificate (TLSFiles.Cert and TLSFiles.Key), or another version or cipher"}
	default:
		return FaultOf(KindTLS)
	}
}
