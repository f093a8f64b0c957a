package callsite_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/callsite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSiteShortensAStack(t *testing.T) {
	for stack, want := range map[string]string{
		"":        "unknown",
		"garbage": "unknown",
		"example.com/shop/api.(*Handler).List (/src/api/list.go:88)\nmain.main (/src/main.go:1)": "api.(*Handler).List (list.go:88)",
	} {
		if got := callsite.Of(stack); got != want {
			t.Errorf("Site(%q) = %q, want %q", stack, got, want)
		}
	}
}
