package testkit

import (
	"os"
	"testing"
)

// FullEnv is the variable that asks for all tests when it is "1", as CI does: slow ones run, and a
// missing server is a failure instead of a skip.
const FullEnv = "POOLKEEPER_FULL"

// Full reports whether FullEnv asks for all tests.
func Full() bool { return os.Getenv(FullEnv) == "1" }

// Slow skips a test that takes seconds, mostly waiting for a server, unless FullEnv asks for all.
func Slow(tb testing.TB) {
	tb.Helper()
	if !Full() || testing.Short() {
		tb.Skip("left out: it is slow; " + FullEnv + "=1 runs it")
	}
}
