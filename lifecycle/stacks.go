package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/callsite"
	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// Keys of the pprof labels on the goroutines of a component, those it starts included.
const (
	labelComponent = "poolkeeper.component"
	labelRegistry  = "poolkeeper.registry" // a different value for each registry of the process
)

// labelsOf returns the pprof labels of ctx as arguments of pprof.Labels.
func labelsOf(ctx context.Context) []string {
	var labels []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		labels = append(labels, key, value)
		return true
	})
	return labels
}

// unlabel takes the labels of a component off the calling goroutine: one of the registry's own,
// that may have been started from one of a component's.
func (r *Registry) unlabel() { pprof.SetGoroutineLabels(r.root) }

// labelsFor makes the labels of the component's goroutines: ours, and those of the context of
// Start.
func (r *Registry) labelsFor(n *node) context.Context {
	if len(r.labels) == 0 { // as good as always
		return pprof.WithLabels(r.root, pprof.Labels(labelComponent, n.name, labelRegistry, r.id))
	}
	labels := append(slices.Clip(r.labels), labelComponent, n.name, labelRegistry, r.id)
	return pprof.WithLabels(r.root, pprof.Labels(labels...))
}

// maxGoroutines bounds how many goroutines of a component are shown: a server has thousands.
const maxGoroutines = 10

// stacks returns what the goroutines of each component are doing, by its name. Goroutines that a
// component started are found by their labels, which goroutines inherit.
//
// A profile stops the world, so callers that come while one is taken share the next.
func (r *Registry) stacks() map[string]string {
	profiles := r.profiles.Load()
	r.profiling.Lock()
	defer r.profiling.Unlock()
	if r.profiles.Load() == profiles { // none has begun since we asked
		r.profiles.Add(1)
		r.profile = r.takeProfile()
	}
	return r.profile
}

func (r *Registry) takeProfile() map[string]string {
	byName := make(map[string][]stacks.Group)
	for _, g := range stacks.Profile() {
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

// isReturning recognises a goroutine that has come back from its component and asks for a profile.
func isReturning(g stacks.Group) bool {
	return slices.ContainsFunc(g.Frames, func(f stacks.Frame) bool {
		return strings.HasSuffix(f.Function, "lifecycle.(*call).leave")
	})
}

// inShutdown reports whether a goroutine that its component waits for has called Shutdown: the
// component's own call, or the handler of a request.
func inShutdown(g stacks.Group, inside bool) bool {
	calls := func(part string) bool {
		return slices.ContainsFunc(g.Frames, func(f stacks.Frame) bool { return strings.HasPrefix(f.Function, part) })
	}
	return calls(shutdownFrame) && (inside || calls("net/http.(*conn).serve") || calls("google.golang.org/grpc.(*Server)."))
}

// describe prints goroutines, that of the call first: it is the one that does not return.
func describe(groups []stacks.Group) string {
	var calls, others []string
	more := 0
	for _, g := range groups {
		all := g
		g.Frames = untilOurs(g.Frames)
		inside := len(g.Frames) < len(all.Frames)
		if len(g.Frames) == 0 || isReturning(all) { // on its way in or out
			continue
		}
		text := stacks.Print(g.Frames)
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
	frames := stacks.Callers(0)
	for len(frames) > 1 && isOurs(frames[0]) {
		frames = frames[1:] // the deferred function that recovers
	}
	return stacks.Print(untilOurs(frames))
}

// untilOurs cuts a stack where the registry has called the component.
func untilOurs(frames []stacks.Frame) []stacks.Frame {
	if i := slices.IndexFunc(frames, isOurs); i >= 0 {
		return frames[:i]
	}
	return frames
}

// isOurs reports whether a function is the machinery that calls components.
func isOurs(f stacks.Frame) bool {
	name, ok := strings.CutPrefix(f.Function, "github.com/poolkeeper/poolkeeper/lifecycle.")
	return ok && (strings.HasPrefix(name, "(*call).") ||
		strings.HasPrefix(name, "(*workerRun).work") || strings.HasPrefix(name, "(*groupRun).work") || strings.HasPrefix(name, "panicStack"))
}

// waiting are packages in which a goroutine that hangs usually is, but not through their fault.
//
//nolint:gochecknoglobals // a constant table
var waiting = []string{
	"runtime.", "runtime/", "sync.", "sync/", "internal/", "time.", "os.", "io.", "net.", "net/", "bufio.", "context.",
	"syscall.", "reflect.", "crypto/", "database/sql.",
}

// site is the place in a stack that an error names: the innermost frame outside the standard
// library and this package. Without one it is the innermost frame.
func site(stack string) string {
	first, _, _ := strings.Cut(stack, "\n\n") // one goroutine
	for line := range strings.Lines(first) {
		if !isWaiting(line) && !strings.HasPrefix(line, ownFrames) && !strings.HasPrefix(line, innerFrames) {
			return callsite.Of(line)
		}
	}
	for line := range strings.Lines(first) {
		if !isWaiting(line) {
			return callsite.Of(line)
		}
	}
	return callsite.Of(stack)
}

func isWaiting(line string) bool {
	return slices.ContainsFunc(waiting, func(p string) bool { return strings.HasPrefix(line, p) })
}

const (
	ownFrames     = "github.com/poolkeeper/poolkeeper/lifecycle." // how frames of this package begin
	innerFrames   = "github.com/poolkeeper/poolkeeper/internal/"  // and those of what it calls
	shutdownFrame = ownFrames + "(*Registry).Shutdown"
)

// errWaitsForItself is the reason why a component hangs that has called Shutdown and waits for it.
var errWaitsForItself = errors.New("it waits for Shutdown, which waits for it; " +
	"call Shutdown on a goroutine of its own, or return an error")

// waitsForItself reports whether the first goroutine of a component's stack is in Shutdown; see
// describe.
func waitsForItself(stack string) bool {
	first, _, _ := strings.Cut(stack, "\n\n")
	return strings.Contains(first, shutdownFrame+" (")
}
