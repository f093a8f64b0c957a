package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// maxGoroutines bounds how many goroutines of a component are shown: a server has thousands.
const maxGoroutines = 10

// stacks returns what the goroutines of each component are doing, by its name. Goroutines that a component started are
// found by their labels, which goroutines inherit.
func (r *Registry) stacks() map[string]string {
	byName := make(map[string][]goroutines.Group)
	for _, g := range goroutines.Profile() {
		if g.Labels[LabelRegistry] == r.id {
			name := g.Labels[LabelComponent]
			byName[name] = append(byName[name], g)
		}
	}
	out := make(map[string]string, len(byName))
	for name, groups := range byName {
		out[name] = describe(groups)
	}
	return out
}

// describe prints goroutines, that of the call first: it is the one that does not return.
func describe(groups []goroutines.Group) string {
	var calls, others []string
	more := 0
	for _, g := range groups {
		inside := slices.IndexFunc(g.Frames, func(f goroutines.Frame) bool { return isOurs(f.Function) })
		if inside >= 0 {
			g.Frames = g.Frames[:inside]
		}
		if len(g.Frames) == 0 { // on its way in or out
			continue
		}
		text := goroutines.Print(g.Frames)
		if g.Count > 1 {
			text += fmt.Sprintf("\n(%d goroutines)", g.Count)
		}
		switch {
		case inside >= 0:
			calls = append(calls, text)
		case len(others) < maxGoroutines:
			others = append(others, text)
		default:
			more += g.Count
		}
	}
	all := append(calls, others...)
	if more > 0 {
		all = append(all, fmt.Sprintf("(%d more goroutines)", more))
	}
	return strings.Join(all, "\n\n")
}
