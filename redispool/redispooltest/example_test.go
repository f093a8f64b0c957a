package redispooltest_test

import (
	"testing"

	"github.com/poolkeeper/poolkeeper/redispool/redispooltest"
)

// A test of a service's, in full.
func ExampleStart() {
	_ = func(t *testing.T) { //nolint:thelper // a test
		cache := redispooltest.Start(t)
		cache.Client().Set(t.Context(), "stock", 3, 0)

		cache.Refuse() // the server is gone
		if err := cache.Client().Get(t.Context(), "stock").Err(); err == nil {
			t.Error("read from a server that is gone")
		}

		cache.Heal() // and back, with its data
		if n, err := cache.Client().Get(t.Context(), "stock").Int(); n != 3 || err != nil {
			t.Error(n, err)
		}
	}
	// Output:
}
