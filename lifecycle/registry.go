package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/dag"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Registry starts components in the order of their dependencies, watches them, and stops them in
// reverse. Create it with [New]. All its methods are safe for concurrent use. It is used once:
// after a shutdown it cannot be started again.
//
//	New ──Add──▶ ──Start──▶ starting ──▶ up ──Shutdown──▶ closing ──▶ closed
//	                            │                            ▲
//	                            └─ failed: rolled back ──────┘
type Registry struct {
	cfg     Config // with defaults; never changes, but see tuned
	tuned   atomic.Pointer[tuning]
	monitor *health.Monitor
	events  *publisher
	root    context.Context //nolint:containedctx // carries nothing and never ends: for work without a caller
	birth   time.Time       // when New was called; never changes
	id      string          // tells our goroutines from those of other registries

	// mu guards everything below, every node below its own mark, every walk and every call. Nothing
	// slow is done under it: components and callbacks are called without it. Readiness of the
	// monitor changes under it, so that it never differs from phase and from what is down.
	mu       sync.Mutex
	phase    phase
	since    time.Time       // of phase
	faults   []error         // found by New and Add
	nodes    []*node         // as added; at the end, once frozen and if there are ops components, the barrier between them and the rest
	refused  map[string]bool // names whose Add was a fault: that others depend on them is not another one
	byName   map[string]*node
	graph    *dag.Graph      // nil until frozen
	chains   []int32         // longest chain below each node, itself included
	starting *walk           // the walk of Start; nil before
	shutdown *shutdown       // nil until the first Shutdown
	started  result          // how Start went
	ended    result          // how the shutdown went
	values   context.Context //nolint:containedctx // the values of Start's context, for work without a caller: restarts
	labels   []string        // pprof labels of Start's context
	begun    calls           // to be run once mu is unlocked
	cutCause error           // why the shutdown is to be cut short; nil if it is not
	restarts *restarter
	watchers sync.WaitGroup // of components that can end by themselves

	profiles  atomic.Int64      // of the goroutines, that have begun
	profiling sync.Mutex        // held while taking one, which calls no other code; guards the following
	profile   map[string]string // the last one

	unhold func()        // readiness is held until Start has succeeded
	done   chan struct{} // closed when everything is over
}

// phase is where the registry is in its life. It only moves forward.
type phase uint8

const (
	phaseNew phase = iota
	phaseStarting
	phaseUp
	phaseClosing
	phaseClosed
)

// node is a component in its registry.
type node struct {
	settings

	id          int32
	name        string
	comp        Component // nil: a barrier, which nothing is to be done for
	restartable bool
	labels      context.Context //nolint:containedctx // it only carries the labels of the component's goroutines

	// Guarded by Registry.mu.
	state      State
	since      time.Time
	walk       *walk         // the walk that works on it, or did last
	blockers   int32         // neighbours that must be done before it begins in walk
	unblocked  *node         // the last of them to be done
	begun      bool          // it has begun in walk
	done       bool          // its part in walk is over
	call       *call         // the call under way; nil if there is none
	firstStart call          // the call of the first Start, allocated with the node
	died       <-chan error  // of a DoneNotifier, since it is up: what another channel says is late
	unwatch    chan struct{} // closing it ends the watch over died; nil if there is none
	restarts   int
	attempt    int   // restarts in a row without a healthy spell
	err        error // the last failure
	up, down   step  // how it went the last time; zero before
	checks     []*health.Registration
}

// New returns an empty registry. It starts nothing; faults of cfg are returned by Validate and
// Start.
func New(cfg Config) *Registry {
	r := &Registry{
		faults: cfg.faults(),
		byName: make(map[string]*node),
		birth:  time.Now(),
		done:   make(chan struct{}),
	}
	r.since = r.birth
	r.cfg = cfg.withDefaults()
	r.tuned.Store(r.cfg.tuning())
	r.id = fmt.Sprintf("%p", r)
	if cfg.Health.Logger == nil {
		cfg.Health.Logger = r.cfg.Logger
	}
	cfg.Health.OnTransition = r.passTransitions(cfg.Health.OnTransition)
	//nolint:forbidigo // see root
	r.root = context.Background()
	r.events = newPublisher(r.root, r.cfg.Logger)
	r.monitor = health.New(cfg.Health)
	r.unhold = r.monitor.Hold("starting")
	r.restarts = newRestarter(r)
	return r
}

// Add adds a component under a name that is unique in the registry, printable and at most 100 bytes
// long. Faults (a bad or duplicate name, a nil component, a dependency that does not exist, options
// that make no sense) are collected, and returned all at once by Validate and Start. Adding after
// Start or Shutdown is a fault too: the component is not started, and the fault is logged.
//
// The registry owns the component from now on: a shutdown without Start, or a Start that fails,
// aborts it.
func (r *Registry) Add(name string, c Component, opts ...Option) {
	err := r.add(name, c, opts)
	if err != nil {
		r.emit(&event.Refused{Info: event.Info{Time: time.Now(), Name: name, Err: err}})
		return
	}
	if n, ok := c.(NameSetter); ok {
		n.SetName(name)
	}
	if l, ok := c.(LoggerSetter); ok {
		l.SetLogger(r.cfg.Logger)
	}
	if source, ok := c.(EventSource); ok {
		source.Subscribe(func(e poolkeeper.Event) {
			r.emit(&event.Pool{Info: event.Info{Time: e.Time, Name: name, Err: e.Err}, Event: e})
		})
	}
}

// add returns an error only for a component that comes too late or has no name or value; other
// faults are found when the graph is complete.
func (r *Registry) add(name string, c Component, opts []Option) error {
	missing := isNil(c)
	again := !missing && restartable(c) // without the lock: it is the component's code
	r.mu.Lock()
	defer r.mu.Unlock()
	var fault error
	switch {
	case r.phase != phaseNew:
		fault = &addError{name, errFrozen, ""}
	case missing:
		fault = &addError{name, errNilComponent, ""}
	}
	if fault != nil {
		r.refuseLocked(name, fault)
		return fault
	}
	n := r.newNodeLocked(name, c)
	n.restartable = again
	for _, o := range opts {
		if o != nil {
			o(&n.settings)
		}
	}
	switch reason := nameFault(name); {
	case reason != "":
		fault = &addError{name, errName, fmt.Sprintf(" of a %T: %s", c, reason)}
	case r.byName[name] != nil:
		fault = &duplicateError{Name: name}
	default:
		r.byName[name] = n
		return nil
	}
	r.refuseLocked(name, fault)
	return fault
}

// refuseLocked notes a fault of Add.
func (r *Registry) refuseLocked(name string, fault error) {
	r.faults = append(r.faults, fault)
	if r.refused == nil {
		r.refused = make(map[string]bool)
	}
	r.refused[name] = true
}

// maxName bounds the length of names: they are in every log line, and with that of a part, in that
// of a check.
const maxName = 100

// nameFault says what is wrong with a name: it must fit on one line of a page, and into a URL.
func nameFault(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxName:
		return fmt.Sprintf("%d bytes, at most %d are allowed", len(name), maxName)
	case strings.TrimSpace(name) != name:
		return "white space at its begin or end"
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "characters that cannot be printed"
	}
	return ""
}

func (r *Registry) newNodeLocked(name string, c Component) *node {
	n := &node{id: int32(len(r.nodes)), name: name, comp: c, since: r.birth} //nolint:gosec // no service adds 2³¹ components
	r.nodes = append(r.nodes, n)
	return n
}

// isNil reports whether c is nil, or an interface around a nil pointer, which would only crash
// later.
func isNil(c Component) bool {
	if c == nil {
		return true
	}
	v := reflect.ValueOf(c)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// Validate returns every fault of the configuration, the components and the graph at once, joined,
// or nil. It changes and starts nothing.
func (r *Registry) Validate() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.graph != nil {
		return errors.Join(r.faults...)
	}
	_, faults := r.planLocked()
	return errors.Join(append(slices.Clip(r.faults), faults...)...)
}

// Health returns the registry's monitor. It is there from New on, so that handlers can be made
// before Start; it is not ready until Start has succeeded, and never again once a shutdown has
// begun.
func (r *Registry) Health() *health.Monitor { return r.monitor }

// Done returns a channel that is closed when the registry has shut down, whatever the reason.
func (r *Registry) Done() <-chan struct{} { return r.done }

// Components yields the components by name, as added. Use type assertions to reach what they offer:
// [StatsProvider], [HolderLister], [SettingsProvider].
func (r *Registry) Components() iter.Seq2[string, Component] {
	r.mu.Lock()
	nodes := slices.Clip(r.nodes)
	r.mu.Unlock()
	return func(yield func(string, Component) bool) {
		for _, n := range nodes {
			if n.comp != nil && !yield(n.name, n.comp) {
				return
			}
		}
	}
}

// What a registry holds (pools, servers, things to be closed) may have passwords in it and changes
// while it is printed. So it prints what it is, whatever the verb.

// String returns the registry's phase and the number of its components.
func (r *Registry) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	components := 0
	for _, n := range r.nodes {
		if n.comp != nil {
			components++
		}
	}
	return fmt.Sprintf("lifecycle.Registry{%s, components: %d}", r.phase, components)
}

// Format prints what String returns, for every verb.
func (r *Registry) Format(f fmt.State, _ rune) { printing.Format(f, r) }

// LogValue returns what String returns.
func (r *Registry) LogValue() slog.Value { return printing.LogValue(r) }
