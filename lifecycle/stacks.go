package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// maxGoroutines bounds how many goroutines of a component are shown: a server has thousands.
const maxGoroutines = 10

// stacks returns what the goroutines of each component are doing, by its name. Goroutines that a
// component started are found by their labels, which goroutines inherit.
//
// Looking stops the world, so callers that come during a look share the next one.
func (r *Registry) stacks() map[string]string {
	looks := r.looks.Load()
	r.looking.Lock()
	defer r.looking.Unlock()
	if r.looks.Load() == looks { // none has begun since we asked
		r.looks.Add(1)
		r.seen = r.look()
	}
	return r.seen
}

func (r *Registry) look() map[string]string {
	byName := make(map[string][]goroutines.Group)
	for _, g := range goroutines.Profile() {
		if g.Labels[labelRegistry] == r.id {
			name := g.Labels[labelComponent]
			byName[name] = append(byName[name], g)
		}
	}
	out := make(map[string]string, len(byName))
	for name, groups := range byName {
		out[name] = describe(groups)
	}
	return out
}

// isLooking recognises a goroutine that has come back from its component, to ask what became of it.
func isLooking(g goroutines.Group) bool {
	return slices.ContainsFunc(g.Frames, func(f goroutines.Frame) bool {
		return strings.HasSuffix(f.Function, "lifecycle.(*Registry).leave")
	})
}

// inShutdown reports whether a goroutine that its component waits for has called Shutdown: the
// component's own call, or the handler of a request.
func inShutdown(g goroutines.Group, inside bool) bool {
	calls := func(part string) bool {
		return slices.ContainsFunc(g.Frames, func(f goroutines.Frame) bool { return strings.HasPrefix(f.Function, part) })
	}
	return calls(shutdownFrame) && (inside || calls("net/http.(*conn).serve") || calls("google.golang.org/grpc.(*Server)."))
}

// describe prints goroutines, that of the call first: it is the one that does not return.
func describe(groups []goroutines.Group) string {
	var calls, others []string
	more := 0
	for _, g := range groups {
		all := g
		g.Frames = untilOurs(g.Frames)
		inside := len(g.Frames) < len(all.Frames)
		if len(g.Frames) == 0 || isLooking(g) { // on its way in or out
			continue
		}
		text := goroutines.Print(g.Frames)
		if g.Count > 1 {
			text += fmt.Sprintf("\n(%d goroutines)", g.Count)
		}
		switch {
		case inShutdown(all, inside):
			calls = slices.Insert(calls, 0, text)
		case inside:
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

// panicStack is the stack of a panic, from the frame that panicked outwards to where we called the
// component.
func panicStack() string {
	frames := goroutines.Callers(0)
	for len(frames) > 1 && isOurs(frames[0]) {
		frames = frames[1:] // the deferred function that recovers
	}
	return goroutines.Print(untilOurs(frames))
}

// untilOurs cuts a stack where the registry has called the component.
func untilOurs(frames []goroutines.Frame) []goroutines.Frame {
	if i := slices.IndexFunc(frames, isOurs); i >= 0 {
		return frames[:i]
	}
	return frames
}

// isOurs reports whether a function is the machinery that calls components.
func isOurs(f goroutines.Frame) bool {
	name, ok := strings.CutPrefix(f.Function, "github.com/poolkeeper/poolkeeper/lifecycle.")
	return ok && (strings.HasPrefix(name, "(*Registry).call") || strings.HasPrefix(name, "(*call).callComponent") ||
		strings.HasPrefix(name, "(*workerRun).work") || strings.HasPrefix(name, "(*groupRun).work") || strings.HasPrefix(name, "panicStack"))
}
