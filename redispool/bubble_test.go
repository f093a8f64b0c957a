package redispool_test

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// inBubble runs a test in a bubble. A command that waits inside go-redis takes a timer from a sync.Pool of the process: those
// of the bubble are thrown away at its end, for outside it they cannot be used.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	defer func() {
		for range 2 { // a sync.Pool survives one collection
			runtime.GC()
		}
	}()
	synctest.Test(t, f)
}
