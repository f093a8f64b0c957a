// Package pooltest checks what every pool reports: events, expiries, the keys of Stats, and the words
// for a first connection that fails.
//
//	pool ── Subscribe ──▶ Events ── Of(kind) ──▶ test
//	   └─── Expiries ───▶ HasExpiries
//
//	events := pooltest.Subscribed(p)
//	p.Reset()
//	pooltest.Told(t, events, pooltest.Event{Kind: poolkeeper.EventReset}, began)
//
// It imports the root package and health, and refuses to know a kind of pool. Nothing but tests may
// import it.
package pooltest
