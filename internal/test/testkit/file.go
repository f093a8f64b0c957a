package testkit

import (
	"os"
	"testing"
)

// Replace replaces the file at path atomically, as tools that renew passwords and certificates do.
// A reader never sees half of content.
func Replace(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}
