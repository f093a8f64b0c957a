package plural_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/plural"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyOneIsSingular(t *testing.T) {
	for n, want := range map[int]string{0: "0 replicas", 1: "1 replica", 2: "2 replicas"} {
		if got := plural.Of(n, "replica"); got != want {
			t.Errorf("Of(%d) = %q, want %q", n, got, want)
		}
	}
}
