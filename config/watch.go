package config

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// Defaults of [Watch].
const (
	defaultEvery = 5 * time.Second
	defaultSoak  = 30 * time.Second
	defaultStage = 100
)

// Watcher is a component that reloads a file when it changes. Make it with [Watch]. All its methods
// are safe for concurrent use.
type Watcher struct {
	file   *File
	every  time.Duration
	soak   time.Duration
	stage  int
	name   string // of this instance
	faults []error
	events *event.Log

	done chan struct{} // closed when the loop has ended

	mu     sync.Mutex         // guards the following
	cancel context.CancelFunc // ends the loop; nil before Start
	state  State

	loop loop // only the loop uses it
}

// loop is what the goroutine that watches keeps between two looks.
type loop struct {
	seen      fingerprint // at the last look
	since     time.Time   // when seen was first seen
	settled   fingerprint // in effect, or refused: it needs nothing until it changes
	gone      bool        // the file could not be read at the last look
	refs      []string    // of the last content, whether it has faults or not
	history   history
	owed      []step      // that could not be rolled back yet
	announced fingerprint // of the change that waits for its stage
}

// State is one moment of a [Watcher]. Counters are totals since Start.
type State struct {
	Phase string    // "watching", "staged", "trying", "soaking" or "refused"
	Since time.Time // of Phase

	Applied    uint64 // changes that are, or were, in effect for good
	Refused    uint64 // changes that were not tried: the file has faults, or a pool needs a restart
	RolledBack uint64 // changes that were tried and taken back

	Err     error    // why the file as it is now is not in effect; nil: it is
	Restart []Change // changes of the file as it is now that need a restart
}

// WatchOption changes what [Watch] does.
type WatchOption func(*Watcher)

// Every sets how often the watcher reads the file, d > 0. It loads a change once two readings in a row
// are equal, so that it never loads a file that is still being written. Default: 5 s.
func Every(d time.Duration) WatchOption {
	return func(w *Watcher) { w.positive("Every", d, &w.every) }
}

// Soak is how long a change is watched before it is kept, d > 0. Default: 30 s.
func Soak(d time.Duration) WatchOption {
	return func(w *Watcher) { w.positive("Soak", d, &w.soak) }
}

func (w *Watcher) positive(option string, d time.Duration, into *time.Duration) {
	if d <= 0 {
		w.faults = append(w.faults, fmt.Errorf("config: watch: %s is %s; it must be positive", option, d))
		return
	}
	*into = d
}

// Stage is the percentage of instances, from 1 to 100, that make a change as soon as they see it.
// They are chosen by a hash of the instance's name. The others wait until the file has said the
// same for twice Soak and Every together. By then the first have kept the change or rolled it back.
// An operator sees that, and can put the file right. Instances do not talk to each other.
// Default: 100.
func Stage(percent int) WatchOption {
	return func(w *Watcher) {
		if percent < 1 || percent > 100 {
			w.faults = append(w.faults, fmt.Errorf("config: watch: Stage is %d; it must be 1 to 100", percent))
			return
		}
		w.stage = percent
	}
}

// Instance is the name that [Stage] chooses by. Default: the hostname, which is the pod's name on
// Kubernetes.
func Instance(name string) WatchOption { return func(w *Watcher) { w.name = name } }

// Watch returns a component that reloads the file when it changes. It plans the change, waits for its
// stage, reloads pool by pool, and watches readiness, errors and waits of the pools for Soak. If they
// get worse, or a pool refuses, every pool gets its old configuration back. A file with faults
// changes nothing. Each outcome is a log line and an event, is counted in State, and is shown in
// Settings. Add the component to the registry that the file was added to.
func Watch(f *File, opts ...WatchOption) *Watcher {
	w := &Watcher{file: f, every: defaultEvery, soak: defaultSoak, stage: defaultStage, done: make(chan struct{})}
	for _, o := range opts {
		o(w)
	}
	logger := func() *slog.Logger {
		if f.load.logger != nil {
			return f.load.logger
		}
		return slog.Default()
	}
	w.events = event.NewLog("config", func() string { return "config" }, logger, nil)
	return w
}

// Start begins to watch. It does not block. It fails if an option makes no sense, or AddTo was not
// called.
func (w *Watcher) Start(ctx context.Context) error {
	errs := slices.Clone(w.faults)
	w.file.mu.Lock()
	reg, now := w.file.reg, w.file.now
	w.file.mu.Unlock()
	if reg == nil {
		errs = append(errs, errors.New("config: watch: the file was not added to a registry; call AddTo before"))
	}
	if w.name == "" {
		host, err := os.Hostname()
		if err != nil && w.stage < defaultStage {
			errs = append(errs, fmt.Errorf("config: watch: the hostname is not known; give Instance: %w", err))
		}
		w.name = host
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		return errors.New("config: watch: it was started before, or stopped")
	}
	w.loop.seen, w.loop.settled, w.loop.refs, w.loop.since = now.mark, now.mark, now.refs, time.Now()
	w.state.Phase, w.state.Since = "watching", time.Now()
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go w.watch(ctx, reg.Health())
	return nil
}

// Stop ends the watch. A change that is being tried stays in effect as far as it has come. Stop blocks
// until a reload that is under way has ended, at most until ctx ends.
func (w *Watcher) Stop(ctx context.Context) error {
	w.mu.Lock()
	cancel := w.cancel
	if cancel == nil {
		w.cancel = func() {}
		close(w.done)
	}
	w.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("config: watch: a reload is still under way: %w", context.Cause(ctx))
	}
}

// watch is the goroutine that looks at the file. Owner: the Watcher; its context ends it, and so
// does the shutdown of the registry; Stop waits for it.
func (w *Watcher) watch(ctx context.Context, m *health.Monitor) {
	defer close(w.done)
	timer := time.NewTimer(w.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.Draining():
			return
		case <-timer.C:
		}
		if g, ok := m.Report().Group(health.GroupStartup); ok && g.Status.OK() {
			w.look(ctx, m)
		}
		timer.Reset(w.every)
	}
}

// first reports whether this instance is among the first to make a change.
func (w *Watcher) first() bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.name)) // a hash does not fail
	return int(h.Sum32()%100) < w.stage
}

// look reads the file, and acts on a change that it has seen twice.
func (w *Watcher) look(ctx context.Context, m *health.Monitor) {
	_ = w.payBack(ctx) // rollBack has reported its first failure
	w.loop.history.add(time.Now(), w.readings(), w.soak)
	text, err := readFile(w.file.path)
	if err != nil {
		if !w.loop.gone {
			w.loop.gone, w.loop.settled = true, fingerprint{}
			w.refuse(err, "the file cannot be read; the old configuration stays in effect")
		}
		return
	}
	w.loop.gone = false
	mark := fingerprintOf(text, readAll(w.loop.refs))
	if mark != w.loop.seen {
		w.loop.seen, w.loop.since = mark, time.Now()
		return // once it is the same at the next look
	}
	if mark == w.loop.settled {
		return
	}
	next, err := decode(w.file.path, text, w.file.load)
	w.loop.refs = next.refs
	if err != nil {
		w.settle(next)
		w.refuse(err, "the file has faults; the old configuration stays in effect")
		return
	}
	_ = next.abort() // the components were made to find faults, and have opened nothing
	w.consider(ctx, m, next)
}

// consider decides about a content that has no faults.
func (w *Watcher) consider(ctx context.Context, m *health.Monitor, next *content) {
	p := planOf(w.file.content(), next)
	switch {
	case len(p.refused) > 0:
		w.settle(next)
		w.refuse(&restartError{p.refused}, "the file needs a restart; the old configuration stays in effect")
	case len(p.live) == 0 && len(p.now) == 0:
		w.settle(next)
		w.restartOnly(p)
	case !w.first() && time.Since(w.loop.since) < 2*(w.soak+w.every):
		w.become("staged", nil)
		if w.loop.announced != next.mark {
			w.loop.announced = next.mark
			w.events.Emit(event.Event{
				Kind: poolkeeper.EventReloaded, Level: slog.LevelInfo, Text: "a change of the file waits until other instances have tried it",
				Attrs: append(w.attrs(p), slog.Duration("wait", 2*(w.soak+w.every))),
			})
		}
	default:
		w.settle(next)
		w.try(ctx, m, p)
	}
}

// settle notes that nothing is left to do about a content. Its fingerprint can differ from that of
// the look, because it can refer to other files.
func (w *Watcher) settle(next *content) {
	w.loop.settled, w.loop.seen = next.mark, next.mark
}

// restartOnly reports a content whose changes all need a restart, or that has none.
func (w *Watcher) restartOnly(p *plan) {
	w.mu.Lock()
	w.state.Restart, w.state.Err = p.restart, nil
	w.mu.Unlock()
	w.become("watching", nil)
	if len(p.restart) > 0 {
		w.events.Emit(event.Event{
			Kind: poolkeeper.EventReloadRefused, Level: slog.LevelWarn, Text: "the file has changes that need a restart",
			Err: &restartError{p.restart},
		})
	}
}

// restartError names the changes that need a restart.
type restartError struct{ changes []Change }

func (e *restartError) Error() string {
	texts := make([]string, len(e.changes))
	for i, c := range e.changes {
		texts[i] = c.Key + ", " + c.Restart
	}
	return "config: these changes need a restart: " + strings.Join(texts, "; ")
}

func (w *Watcher) attrs(p *plan) []slog.Attr {
	var keys []string
	for _, c := range p.all() {
		keys = append(keys, c.Key)
	}
	return []slog.Attr{slog.String("file", w.file.path), slog.Any("keys", keys)}
}

// refuse reports that the file is not in effect.
func (w *Watcher) refuse(err error, text string) {
	w.mu.Lock()
	w.state.Refused++
	w.mu.Unlock()
	w.become("refused", err)
	w.events.Emit(event.Event{
		Kind: poolkeeper.EventReloadRefused, Level: slog.LevelWarn, Text: text, Err: err,
		Attrs: []slog.Attr{slog.String("file", w.file.path)},
	})
}

func (w *Watcher) become(phase string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Phase != phase {
		w.state.Phase, w.state.Since = phase, time.Now()
	}
	w.state.Err = err
}

// State returns one moment of the watch.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Restart = slices.Clone(s.Restart)
	return s
}

// Checks returns the check "file", which fails while the file as it is now is not in effect: it has
// faults, or was rolled back. A failure makes the service degraded, not unready. Metrics and alerts of
// checks show it.
func (w *Watcher) Checks() []health.Check {
	return []health.Check{{
		Name: "file", Impact: health.ImpactDegrading, FailureThreshold: 1,
		Probe: func(context.Context) error { return w.State().Err },
	}}
}

// Subscribe calls fn for every change that is made, refused or rolled back from now on, until
// cancel is called. fn may be called concurrently with cancel. It must not block.
func (w *Watcher) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return w.events.Subscribe(fn) }

// Settings returns the file, the options of [Watch], and the outcome of the last change.
func (w *Watcher) Settings() []slog.Attr {
	s := w.State()
	out := []slog.Attr{
		slog.String("kind", "config"), slog.String("file", w.file.path), slog.String("environment", w.file.load.environment),
		slog.Duration("every", w.every), slog.Duration("soak", w.soak), slog.Int("stage", w.stage),
		slog.String("phase", s.Phase), slog.Uint64("applied", s.Applied), slog.Uint64("refused", s.Refused),
		slog.Uint64("rolled_back", s.RolledBack),
	}
	if s.Err != nil {
		out = append(out, slog.String("error", s.Err.Error()))
	}
	for _, c := range s.Restart {
		out = append(out, slog.String("needs_restart", c.describe()))
	}
	return out
}
