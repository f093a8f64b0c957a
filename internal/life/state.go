package life

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
)

// State is the name of a pool and where it is in its life. All methods are safe for concurrent use.
// Those that call a function of the pool's hold no lock meanwhile.
type State struct {
	pkg               string         // what errors begin with
	stopping, aborted error          // why contexts end
	changing          ctxmutex.Mutex // to change the pool

	mu          sync.Mutex // guards the following
	name        string
	phase       Phase
	cancelStart context.CancelCauseFunc // of the Start under way
	started     chan struct{}           // closed when the Start under way has returned; nil: none has begun
	cancelStop  context.CancelCauseFunc // of the Stop under way
	stopped     chan struct{}           // closed when stopErr is set; nil: no Stop has begun
	stopErr     error
}

// NewState returns the state of a pool that was not started. pkg is the package that errors speak
// of.
func NewState(pkg, name string) *State {
	return &State{
		pkg: pkg, name: name, changing: ctxmutex.New(),
		stopping: errors.New(pkg + ": stopping"), aborted: errors.New(pkg + ": aborted"),
	}
}

// Name is the pool's name.
func (s *State) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// SetName changes the name, unless the new one is empty.
func (s *State) SetName(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		s.name = name
	}
}

// At is where the pool is now.
func (s *State) At() Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

// Enter moves the pool on to a phase, if it is not there yet. One that is Stopping has no use for a
// Start under way.
func (s *State) Enter(to Phase) {
	s.mu.Lock()
	s.phase = max(s.phase, to)
	cancel := s.cancelStart
	s.mu.Unlock()
	if cancel != nil && to >= Stopping {
		cancel(s.stopping)
	}
}

// Start calls reach, whose context a Stop ends, and when that has succeeded running. A Drain or a
// Stop that comes meanwhile wins: running is not called. If reach fails, Start may be called again.
func (s *State) Start(ctx context.Context, reach func(context.Context) error, running func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done, err := s.beginStart(cancel)
	if err != nil {
		return fmt.Errorf("%s: start %q: %w", s.pkg, s.Name(), err)
	}
	defer close(done)
	err = reach(ctx)
	if s.endStart(err) {
		running()
	}
	if err != nil {
		return fmt.Errorf("%s: start %q: %w", s.pkg, s.Name(), err)
	}
	return nil
}

func (s *State) beginStart(cancel context.CancelCauseFunc) (done chan<- struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.phase.CanStart(s.pkg); err != nil {
		return nil, err
	}
	s.phase, s.cancelStart, s.started = Starting, cancel, make(chan struct{})
	return s.started, nil
}

func (s *State) endStart(err error) (running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelStart = nil
	if s.phase != Starting {
		return false
	}
	s.phase = Running
	if err != nil {
		s.phase = Unstarted
	}
	return err == nil
}

// Stop moves the pool on to Draining, cancels a Start under way and calls shut, whose context ends
// with ctx and with an Abort; started is closed when that Start has returned, and nil if there was
// none. The first call does this; others wait for the first. All return what shut has, or their own
// context's error.
func (s *State) Stop(ctx context.Context, shut func(ctx context.Context, started <-chan struct{}) error) error {
	stopCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	if done := s.stopped; done != nil {
		s.mu.Unlock()
		return s.awaitStop(ctx, done)
	}
	s.stopped, s.cancelStop = make(chan struct{}), cancel
	s.phase = max(s.phase, Draining)
	cancelStart, started := s.cancelStart, s.started
	s.mu.Unlock()
	if cancelStart != nil {
		cancelStart(s.stopping)
	}
	err := shut(stopCtx, started)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.stopErr, s.cancelStop = Stopped, err, nil
	close(s.stopped)
	return err
}

func (s *State) awaitStop(ctx context.Context, done <-chan struct{}) error {
	if !Closed(ctx, done) {
		return fmt.Errorf("%s: stop %q: another Stop is still under way: %w", s.pkg, s.Name(), context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopErr
}

// Abort is a Stop whose time is over; a Stop under way goes on as if its own were.
func (s *State) Abort(shut func(ctx context.Context, started <-chan struct{}) error) error {
	ctx, cancel := context.WithCancelCause(context.Background()) //nolint:forbidigo // Abort has no caller's context
	cancel(s.aborted)
	s.mu.Lock()
	hurry, done := s.cancelStop, s.stopped
	s.mu.Unlock()
	if hurry == nil {
		return s.Stop(ctx, shut)
	}
	hurry(s.aborted)
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopErr
}

// Aborted reports whether ctx, one that Stop has given to shut, was ended by an Abort.
func (s *State) Aborted(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), s.aborted)
}

// Closed waits until done is closed or ctx ends, and reports whether done is, which counts first:
// what has ended has ended, however late one asks. A nil done is closed.
func Closed(ctx context.Context, done <-chan struct{}) bool {
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
