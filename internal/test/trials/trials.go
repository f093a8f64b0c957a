// Package trials puts libraries that start and stop components on trial: what happens when a
// component fails, hangs, panics or dies. Each trial is one function over a small adapter, so that
// the same function judges every library.
//
//	for each library:  adapter (System)  ◀── Trial.Run ──▶  T: a *testing.T, or a Record that only takes notes
//
// Durations are multiples of a unit: a second in a testing/synctest bubble, some milliseconds in
// real time for libraries that cannot run in a bubble.
package trials

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// System is one set of components under the care of a library.
type System interface {
	// Add adds a component before Start. The library is expected to report faults at Start, at the
	// latest.
	Add(name string, c Component, dependsOn ...string)
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Component is what a library is given to start and stop.
type Component struct {
	Start, Stop func(context.Context) error // never nil
	// Died gets the error the component dies of while it is up; nil for one that does not.
	Died <-chan error
}

// T takes the verdict. A *testing.T is one.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// Trial is one row of the table.
type Trial struct {
	Name  string // as in the name of a test
	Title string // what must hold
	// Timed says that the trial waits for deadlines; the others take no time.
	Timed bool
	run   func(*trial)
}

// All returns every trial, in the order of the table.
func All() []Trial {
	return []Trial{
		Order, FailedStart, StartHangs, StopHangs, Panics, StopDuringStart, ConcurrentStops, Faults, StopErrors, Death,
	}
}

// Run puts a library on trial in a bubble.
func Run(t *testing.T, what Trial, library func() System) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		what.On(t, time.Second, library)
	})
}

// On puts a library on trial. unit is the length of a short wait: a second in a bubble, 50 ms or
// more in real time.
func (w Trial) On(t T, unit time.Duration, library func() System) {
	t.Helper()
	tr := &trial{T: t, unit: unit, library: library, release: make(chan struct{})}
	defer close(tr.release) // what hangs may end now
	w.run(tr)
}

// Record takes notes instead of failing a test, to show what a library does not do.
type Record struct {
	mu       sync.Mutex // guards the following
	failures []string
}

// Helper does nothing.
func (r *Record) Helper() {}

// Logf does nothing.
func (r *Record) Logf(string, ...any) {}

// Errorf takes a note.
func (r *Record) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// Failures returns the notes.
func (r *Record) Failures() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.failures)
}

// trial is one trial going on.
type trial struct {
	T

	unit    time.Duration
	library func() System
	release chan struct{} // closed at the end: what hangs returns
	log     journal
}

// hang ignores its context until the trial is over.
func (t *trial) hang() { <-t.release }

// quick is a component that only writes into the journal.
func (t *trial) quick(name string) Component {
	return Component{
		Start: func(context.Context) error { t.log.write("+", name); return nil },
		Stop:  func(context.Context) error { t.log.write("-", name); return nil },
	}
}

// within returns a context that ends after n units.
func (t *trial) within(n int) (context.Context, context.CancelFunc) {
	//nolint:forbidigo // the root of a trial
	return context.WithTimeout(context.Background(), time.Duration(n)*t.unit)
}

// inTime complains unless what began at the given time took at most n units and a half.
func (t *trial) inTime(what string, began time.Time, n int) {
	t.Helper()
	if took := time.Since(began); took > time.Duration(n)*t.unit+t.unit/2 {
		t.Errorf("%s took %v, its deadline was %v", what, took, time.Duration(n)*t.unit)
	}
}

// start and stop call the library, and turn a panic that gets out of it into a complaint.
func (t *trial) start(ctx context.Context, s System) (err error) {
	defer t.escaped("Start", &err)
	return s.Start(ctx)
}

func (t *trial) stop(ctx context.Context, s System) (err error) {
	defer t.escaped("Stop", &err)
	return s.Stop(ctx)
}

func (t *trial) escaped(from string, err *error) {
	if v := recover(); v != nil {
		t.Errorf("a panic got out of %s: %v", from, v)
		*err = fmt.Errorf("panic: %v", v)
	}
}

// journal is what components did, in order.
type journal struct {
	mu    sync.Mutex // guards the following
	lines []string
}

func (j *journal) write(sign, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, sign+name)
}

// at returns the place of a line, −1 if it is not there.
func (j *journal) at(line string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Index(j.lines, line)
}

func (j *journal) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return fmt.Sprint(j.lines)
}

// closed complains about components that were started and not stopped.
func (t *trial) closed(names ...string) {
	t.Helper()
	for _, name := range names {
		if t.log.at("+"+name) >= 0 && t.log.at("-"+name) < 0 {
			t.Errorf("%s is still up: %v", name, &t.log)
		}
	}
}

// before complains unless both lines are there, in this order.
func (t *trial) before(first, second string) {
	t.Helper()
	a, b := t.log.at(first), t.log.at(second)
	if a < 0 || b < 0 || a > b {
		t.Errorf("want %s before %s: %v", first, second, &t.log)
	}
}
