package health

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
		{KindSlow, "it answers, but slowly: look at the server's load and at the network"},
		{KindFlaky, "part of the work fails: look at the errors of the pool and at the server's log"},
	} {
		if a.kind == k {
			return a.line
		}
	}
	return ""
}
