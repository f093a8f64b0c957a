package redispool_test

import (
	"runtime"
	"testing"
)

// dropsTimers is for tests in a bubble. A command that waits inside go-redis takes a timer from a
// sync.Pool of the process. Those of the bubble are thrown away when the test ends, for outside it
// they cannot be used.
func dropsTimers(t *testing.T) *testing.T {
	t.Helper()
	t.Cleanup(func() {
		for range 2 { // a sync.Pool survives one collection
			runtime.GC()
		}
	})
	return t
}
