package nearest_test

import (
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/nearest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNameIsTheFirstOfTheMostAlike(t *testing.T) {
	among := []string{"orders", "order", "Billing", "größe"}
	for name, want := range map[string]string{
		"ordres":  "orders",
		"orderz":  "orders", // "order" is as near
		"rder":    "order",
		"billnig": "Billing",
		"BILLING": "Billing",
		"grösse":  "größe",
		"cache":   "",
		"":        "",
	} {
		if got := nearest.Name(name, slices.Values(among)); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
	if got := nearest.Name("orders", slices.Values([]string(nil))); got != "" {
		t.Errorf("among none: %q", got)
	}
}
