// Package health watches what a service depends on and answers the probes of an orchestrator from
// what it knows.
//
// Checks run in the background; a probe only reads the last verdict. It does no I/O, takes no lock
// that a check can hold, and costs the same for one check and for a thousand:
//
//	Check.Probe ──run by──▶ scheduler ──result──▶ thresholds ──verdict──▶ snapshot ──atomic──▶ /livez /readyz /startupz
//	    ▲                  (one timer,           (3 failures,            (immutable,          (prepared bytes)
//	    │                   bounded               1 success)              expires by
//	Observe(err)            concurrency)                                  itself)
//	from live traffic
//
// A verdict is never better than what is known: before its first result a critical check is not
// ready; a probe that hangs, panics or ends its goroutine has failed; a verdict older than
// [Check.MaxAge] no longer counts, even if the scheduler itself is dead, because every page has an
// expiry of its own that needs neither the scheduler nor its lock.
//
//	m := health.New(health.Config{})
//	_, err := m.Register(health.Check{Name: "postgres", Probe: pool.Ping})
//	...
//	err = m.Start(ctx)
//	http.ListenAndServe(":8081", health.Handler(m))
//
// What it refuses to do: run a check because a client asked for a probe page; let anything outside
// the process decide over liveness (only a [Heartbeat] does); show an error text to a client that
// [WithDetails] has not admitted; become ready again after [Monitor.SetDraining].
package health
