package testkit

import (
	"context"
	"testing"
	"time"
)

// Patience bounds waits for what should be there soon, on a machine however busy: no test succeeds by it.
const Patience = time.Minute

// Eventually waits until cond holds, or ends the test after Patience, saying what did not come true. cond is called
// often, by the calling goroutine.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", Patience, what)
		}
	}
}

// Within is a context that ends after d. It outlives the test's own context, so that it serves in a Cleanup, and ends
// with those.
func Within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), d)
	tb.Cleanup(cancel)
	return ctx
}
