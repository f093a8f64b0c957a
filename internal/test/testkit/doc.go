// Package testkit is what the tests of several packages say: waits that end, loggers, files that
// are replaced, ports that no other process takes, and a network that misbehaves.
//
//	test ── Eventually ──▶ condition, again and again ── holds ──▶ goes on
//	                                │
//	                                └── Patience has passed ──▶ Fatal, with what was waited for
//
//	client ──▶ Proxy ──▶ server      BlackHole, Reset, Mute, Point …: what the network does to them
//
// A package's tests give what they use most a short name of their own, in one place:
//
//	var (
//		eventually = testkit.Eventually
//		within     = testkit.Within
//	)
//
//	func TestX(t *testing.T) {
//		eventually(t, "the surplus is closed", func() bool { return p.Stats().Open == 2 })
//		err := p.Stop(within(t, time.Second))
//	}
//
// It imports the standard library only, and refuses to know anything of pools, drivers and servers:
// for those there are lifecycletest, redispooltest, sqlpooltest and internal/test/testserver.
// Nothing but tests may import it.
package testkit
