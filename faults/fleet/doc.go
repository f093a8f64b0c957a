// Package fleet simulates many instances of a service that share one database server: a cold start,
// a rolling update, a failover, a restart, a long outage, renewed credentials.
//
//	1,000 × (20 callers ─▶ sqlpool.DB or Postgres) ── logins, one after the other ──▶ Server
//	        all of it in a testing/synctest bubble: virtual time, no sockets
//
// The pools are the real ones, so the policy that is measured is the one that services run. The
// server is a model: it takes so many logins in a second, however many wait, and so many
// connections. What a query costs it is left out.
//
//	r := fleet.Run(t, fleet.Scenarios()[0], fleet.DB, 125)
//	t.Log(r.Peak(), r.Back())
//
// It is for tests alone.
package fleet
