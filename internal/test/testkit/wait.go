package testkit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Patience bounds waits for what should be there soon, on a machine however busy: no test succeeds
// by it.
const Patience = time.Minute

// Eventually waits until cond holds, or ends the test after Patience, saying what did not come
// true. cond is called often, by the calling goroutine.
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

// Within is a context that ends after d. It outlives the test's own context, so that it serves in a
// Cleanup, and ends with those.
func Within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), d)
	tb.Cleanup(cancel)
	return ctx
}

// Advance lets d of a bubble's time go by, and everything be done that is due by its end. After a
// bare sleep, the work of a timer that fires at that very moment may be done, under way or still to
// come, so a test could not count on it. One goroutine at a time may call it.
func Advance(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a bubble, or else Wait panics
	synctest.Wait()
}
