// Package redispooltest gives a test a started redispool.Pool on a Redis of its own, in memory, in
// one line, and lets it fail on demand. It is for the tests of services; it needs no server, no
// container and no fixed port.
//
//	func TestCheckoutSurvivesALostCache(t *testing.T) {
//		cache := redispooltest.Start(t)
//		shop := newShop(cache.Client())
//		cache.Refuse()                 // the server is gone
//		if err := shop.Checkout(t.Context()); err != nil {
//			t.Fatal(err)
//		}
//		cache.Heal()
//	}
//
// Between the pool and the server in memory (miniredis, whose data a test can set and read) stands
// a wire that can be cut:
//
//	redispool.Pool ──▶ wire ──▶ miniredis
//	                    │ Refuse, RefuseNew,     │ ReadOnly
//	                    │ Hang, Drop
//
// At the end of the test the pool is stopped, and the test fails if code under test still holds a
// connection.
//
// It refuses to stand in for what miniredis does not do: blocking semantics under load, Cluster,
// Sentinel, memory limits. For those a real server is needed.
package redispooltest
