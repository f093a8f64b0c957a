package lifecycletest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// ErrFake is what a [Script] that fails returns, unless it has an Err.
var ErrFake = errors.New("lifecycletest: told to fail")

// Script is what a [Fake] does in one phase. The zero Script returns nil at once. The parts are
// done in the order of the fields.
type Script struct {
	// Delay is for how long to work. It ends early, with the context's error, when the context
	// ends.
	Delay time.Duration
	// Stubborn makes Delay go on when the context ends.
	Stubborn bool
	// Hang never returns before Release is called, or, without Stubborn, before the context ends.
	Hang bool
	// Panic is what to panic with, if it is not nil.
	Panic any
	// Goexit ends the goroutine instead of returning.
	Goexit bool
	// Fail is how many times to fail, counted from the first call. Forever: every time.
	Fail int
	// Err is what to fail with. Zero: ErrFake.
	Err error
}

// Forever is, as [Script.Fail], more often than any test calls.
const Forever = 1 << 30

// Fake is a component that does as it is told, and keeps a journal. The zero Fake works. Its
// scripts must not be changed after it was added. By itself it is a Component that can die and be
// restarted; [Fake.As] gives it the power to drain and to abort. Its methods are safe for
// concurrent use.
type Fake struct {
	OnStart, OnDrain, OnStop, OnAbort Script
	// Journal gets a line for every call and return; nil: none is kept. Fakes may share one.
	Journal *Journal

	mu       sync.Mutex // guards the following
	name     string
	calls    map[string]int
	released chan struct{} // closed by Release; nil before the first use
	died     chan error    // replaced by Start
}

// Powers are what a [Fake] can do besides starting and stopping.
type Powers uint8

// The powers.
const (
	Drains Powers = 1 << iota // it is a lifecycle.Drainer
	Aborts                    // it is a lifecycle.Aborter; Abort, unless told to fail, releases what hangs
)

// As returns the fake as a component with the given powers.
func (f *Fake) As(p Powers) lifecycle.Component {
	switch p & (Drains | Aborts) {
	case Drains:
		return drainFake{f}
	case Aborts:
		return abortFake{f}
	case Drains | Aborts:
		return fullFake{f, drainFake{f}, abortFake{f}}
	}
	return f
}

type (
	drainFake struct{ *Fake }
	abortFake struct{ *Fake }
	fullFake  struct {
		*Fake

		drain drainFake
		abort abortFake
	}
)

// Drain plays OnDrain.
func (f drainFake) Drain(ctx context.Context) error {
	return f.play(ctx, event.PhaseDrain, f.OnDrain)
}

// Abort plays OnAbort.
func (f abortFake) Abort() error {
	//nolint:forbidigo // Abort has no context
	err := f.play(context.Background(), event.PhaseAbort, f.OnAbort)
	if err == nil {
		f.Release()
	}
	return err
}

// Drain plays OnDrain.
func (f fullFake) Drain(ctx context.Context) error { return f.drain.Drain(ctx) }

// Abort plays OnAbort.
func (f fullFake) Abort() error { return f.abort.Abort() }

// SetName takes the name for the journal.
func (f *Fake) SetName(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name = name
}

// Start plays OnStart.
func (f *Fake) Start(ctx context.Context) error {
	f.mu.Lock()
	f.died = make(chan error, 1)
	f.mu.Unlock()
	return f.play(ctx, event.PhaseStart, f.OnStart)
}

// Stop plays OnStop.
func (f *Fake) Stop(ctx context.Context) error { return f.play(ctx, event.PhaseStop, f.OnStop) }

// Done gets what Die is called with.
func (f *Fake) Done() <-chan error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.died
}

// Die makes the fake end by itself, once per start: with an error it has died, with nil it has
// completed. Before Start it does nothing.
func (f *Fake) Die(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.died != nil {
		select {
		case f.died <- err:
		default:
		}
	}
}

// Restartable is true.
func (f *Fake) Restartable() bool { return true }

// Release makes everything return that hangs, now and later.
func (f *Fake) Release() {
	ch := f.releasedCh()
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

func (f *Fake) releasedCh() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released == nil {
		f.released = make(chan struct{})
	}
	return f.released
}

// Calls returns how often a phase was called: one of the Phase constants of package lifecycle.
func (f *Fake) Calls(phase string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[phase]
}

// play does what the script of a phase says.
func (f *Fake) play(ctx context.Context, phase string, s Script) (err error) {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = make(map[string]int)
	}
	f.calls[phase]++
	call, name := f.calls[phase], f.name
	f.mu.Unlock()
	f.Journal.write(name, phase)
	defer func() {
		if err == nil {
			f.Journal.write(name, phase+" done")
		} else {
			f.Journal.write(name, phase+" failed")
		}
	}()
	err = errInterrupted // stays if it panics or exits
	if waited := f.wait(ctx, s); waited != nil {
		return waited
	}
	switch {
	case s.Panic != nil:
		panic(s.Panic)
	case s.Goexit:
		runtime.Goexit()
	case call <= s.Fail && s.Err != nil:
		return s.Err
	case call <= s.Fail:
		return ErrFake
	}
	return nil
}

var errInterrupted = errors.New("lifecycletest: did not return")

// wait takes the time the script wants.
func (f *Fake) wait(ctx context.Context, s Script) error {
	ended := ctx.Done()
	if s.Stubborn {
		ended = nil
	}
	if s.Delay > 0 {
		timer := time.NewTimer(s.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ended:
			return context.Cause(ctx)
		}
	}
	if s.Hang {
		select {
		case <-f.releasedCh():
		case <-ended:
			return context.Cause(ctx)
		}
	}
	return nil
}

// Journal is what fakes did, in order. Its zero value is ready; a nil one keeps nothing. It is safe
// for concurrent use.
type Journal struct {
	mu    sync.Mutex // guards the following
	lines []string
}

func (j *Journal) write(name, what string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, name+": "+what)
}

// Lines returns what happened so far: "name: start", "name: start done", "name: stop failed" and so
// on.
func (j *Journal) Lines() []string {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// Index returns the place of the first such line, −1 if there is none.
func (j *Journal) Index(line string) int { return slices.Index(j.Lines(), line) }
