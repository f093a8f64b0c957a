package stacks_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// What runtime/pprof writes comes back, whatever labels and functions are called. Text before and
// after it changes nothing, and makes no group of its own without a head.
func FuzzParse(f *testing.F) {
	f.Add("", "component", "cache", "main.(*T).work", "/src/a b/main.go", 12, 3)
	f.Add("goroutine profile: total 3\n", "a\"b", "\n", "main.f+0x1", "C:/x.go", -1, 0)
	f.Add("1 @ 0x1\n# labels: {\"a\":\"b\"", "", "\xff", "f", "g", 1<<30, 1)
	f.Fuzz(func(t *testing.T, noise, key, value, function, file string, line, count int) {
		for _, g := range stacks.Parse([]byte(noise)) {
			if len(g.Frames) > strings.Count(noise, "\n")+1 {
				t.Fatalf("%d frames of %q", len(g.Frames), noise)
			}
		}
		if strings.ContainsAny(function+file, "\t\r\n") || function == "" || file == "" || count < 0 || len(noise) > 1<<16 {
			return
		}
		text := fmt.Sprintf("%d @ 0x1 0x2\n# labels: {%q:%q, \"x\":\"y\"}\n#\t0x1\t%s+0x24\t\t%s:%d\n\n", count, key, value, function, file, line)
		if key == "x" {
			return
		}
		want := stacks.Group{
			Count: count, Labels: map[string]string{key: value, "x": "y"},
			Frames: []stacks.Frame{{Function: function, File: file, Line: line}},
		}
		all := stacks.Parse([]byte(noise + "\n" + text))
		if len(all) == 0 {
			t.Fatalf("no group of %q", text)
		}
		got := all[len(all)-1]
		if got.Count != want.Count || !maps.Equal(got.Labels, want.Labels) || !slices.Equal(got.Frames, want.Frames) {
			t.Fatalf("%q: %+v, want %+v", text, got, want)
		}
	})
}
