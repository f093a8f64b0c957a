// Package testserver starts real redis-server, postgres, mariadbd and prometheus processes for
// tests, from the binaries of the machine, each on a free loopback port and in a temporary
// directory of its own, and can stop, kill, freeze, thaw and restart each.
//
//	func TestSurvivesRestart(t *testing.T) {
//		srv := testserver.Redis(t)          // this test's own; gone when the test ends
//		... srv.Kill(); srv.Restart() ...
//	}
//
//	func TestQuery(t *testing.T) {
//		srv := testserver.SharedPostgres(t) // one per test binary; only for tests that leave it as it was
//	}
//
//	func TestMain(m *testing.M) {
//		goleak.VerifyTestMain(testserver.Main(m)) // stops the shared ones
//	}
//
// A test that needs a server which is not installed is skipped with a message that says what to
// install, or fails if POOLKEEPER_FULL=1. With -short it is skipped in any case. Nothing relies on a
// server that happens to be running already.
//
// It refuses to use containers, fixed ports and the machine's own databases.
package testserver
