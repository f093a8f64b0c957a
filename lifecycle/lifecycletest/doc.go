// Package lifecycletest starts a registry in a test, stops it when the test ends, and fails the
// test for what is left behind.
//
//	func TestService(t *testing.T) {
//		reg := lifecycletest.New(t, lifecycle.Config{})
//		reg.Add("orders", orders)
//		reg.Add("api", api, lifecycle.WithDependencies("orders"))
//		lifecycletest.Start(t, reg)
//		lifecycletest.Order(t, reg, "orders", "api") // api needs orders
//		// … and at the end of the test everything is stopped
//	}
//
// What fails a test:
//
//	New ──▶ Start ─────────────▶ the test ─────────▶ t.Cleanup
//	          │ error of Start                          │ error of Shutdown, a component that was given up among them
//	          │ a component that started too early      │ a component that stopped too early
//	                                                    │ a goroutine that is still there
//
// It works in testing/synctest bubbles and in parallel tests: leaked goroutines are found by the
// labels they inherit from the test, not by counting. Goroutines that a constructor starts are
// found if it was called on the goroutine of the test, after [New]. A [Fake] is a component that
// fails, hangs or panics as told.
//
// It refuses to look at goroutines that others started, and to wait for long: what is still there
// two seconds after the shutdown is a leak.
package lifecycletest
