package poolkeeper

import "time"

// Kinds of an [Expiry].
const (
	ExpiryClientCertificate = "client-certificate" // presented to the server
	ExpiryServerCertificate = "server-certificate" // presented by the server
	ExpiryCA                = "ca"                 // an authority that the server's certificate is verified with
	ExpiryCredentials       = "credentials"        // a password or token
)

// Expiry says when a certificate or a credential of a pool or a server expires.
type Expiry struct {
	// Kind is one of the Expiry constants.
	Kind string
	// Subject is the common name of a certificate, or its first other name. It is empty for
	// credentials.
	Subject string
	// NotAfter is the last moment at which it is valid.
	NotAfter time.Time
}
