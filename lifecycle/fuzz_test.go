package lifecycle_test

import (
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Whatever components are called, the graph has one line for each box and arrow, and a name ends no
// label and begins no markup.
func FuzzGraph(f *testing.F) {
	f.Add("cache", "orders")
	f.Add("a\"]\n  click c0 \"https://evil.example\"", "<img src=x>")
	f.Add("#quot;", "a`b\\;&")
	f.Add("\x00\u2028\r", "end")
	f.Fuzz(func(t *testing.T, one, two string) {
		if one == "" || two == "" || one == two || one == "plain" || two == "plain" {
			return
		}
		graph := func(one, two string) string {
			reg := lifecycle.New(quiet())
			reg.Add(one, lifecycle.Hooks{})
			reg.Add(two, lifecycle.Hooks{}, lifecycle.WithDependencies(one))
			return reg.Graph()
		}
		got, want := graph(one, two), graph("plain", "other")
		for _, mark := range []string{"\n", "\"", "<", "\r"} {
			if n, most := strings.Count(got, mark), strings.Count(want, mark); n != most {
				t.Fatalf("%q, %q: %q occurs %d times, want %d in %s", one, two, mark, n, most, got)
			}
		}
	})
}
