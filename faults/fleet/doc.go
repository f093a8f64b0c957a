// Package fleet simulates many instances of a service that share one database server. Its scenarios
// are a cold start, a rolling update, a failover, a restart, a long outage and renewed credentials.
//
//	size × (20 callers ─▶ sqlpool.DB or Postgres) ── logins, one after the other ──▶ Server
//	        all of it in a testing/synctest bubble: virtual time, no sockets
//
// The pools are the real ones, so the simulation measures the policy that services run. The server is
// a model with two limits: logins per second and connections. It leaves out what a query costs.
//
//	r := fleet.Run(t, fleet.Scenarios()[0], fleet.DB, 125)
//	t.Log(r.Peak(), r.Back())
//
// It is for tests only.
package fleet
