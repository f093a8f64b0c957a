package health

// advice is the general line for a kind: what to look at first.
func (k Kind) advice() string {
	switch k {
	case KindRefused:
		return "nothing listens at that address: is the server up, are host and port right?"
	case KindUnreachable:
		return "no route to the host: check network, firewall and security groups"
	case KindDNS:
		return "the host name does not resolve: check the name and the resolver"
	case KindTimeout:
		return "no answer in time: the server is overloaded or frozen, or the network drops packets"
	case KindHung:
		return "the probe ignores its context: look at its goroutine in a goroutine dump"
	case KindCanceled:
		return "the work was cancelled from outside: usually a shutdown, not a fault of the server"
	case KindReset:
		return "the other side closed the connection: did the server, a proxy or a load balancer restart or time it out?"
	case KindTLS:
		return "the TLS handshake failed: check certificate, host name, expiry date and trusted roots"
	case KindAuthentication:
		return "the server rejects the credentials: check user and password, and whether they were rotated"
	case KindAuthorization:
		return "the user may not do this: check its grants"
	case KindTooManyConnections:
		return "the server's connection limit is reached: compare it with replicas × pool size"
	case KindReadOnly:
		return "the server does not take writes: did a failover turn it into a replica?"
	case KindPoolExhausted:
		return "every connection of our own pool is in use: look for leaks and slow queries before raising the limit"
	case KindShuttingDown:
		return "the server is going away: a restart or a failover is under way"
	case KindStarting:
		return "the server is not ready yet: it is loading or recovering, wait"
	case KindNotFound:
		return "what was asked for does not exist on the server: check the database name"
	case KindResources:
		return "memory, disk or file descriptors have run out, here or on the server"
	case KindClusterDown:
		return "the cluster has no quorum or no primary: look at its nodes"
	case KindProtocol:
		return "the other side does not speak the protocol: wrong port, or TLS on one side only?"
	case KindDraining:
		return "our own pool is shutting down: nothing to mend"
	case KindPanic:
		return "the probe panicked: a fault of its code"
	case KindStale:
		return "no result came in for longer than MaxAge: the scheduler is stuck or starved"
	case KindNone, KindUnknown:
	}
	return ""
}
