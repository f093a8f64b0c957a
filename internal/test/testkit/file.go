package testkit

import (
	"os"
	"testing"
)

// Replace puts content at path at once, as those do who renew passwords and certificates: nobody
// reads a half.
func Replace(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}
