package health

// Kind is the class of a failure: what went wrong, in one word that can be alerted on.
type Kind string

// Kinds of failure. Drivers' packages use the same ones.
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
	KindSlow               Kind = "slow"                 // it works, but slowly
	KindFlaky              Kind = "flaky"                // it works, but too much of what is asked of it fails
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
