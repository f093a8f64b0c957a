package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/life"
)

// abortGrace bounds how long an Abort waits for a poll under way.
const abortGrace = time.Second

var errSibling = errors.New("replica: another pool of the same component has failed")

// each calls f for every member at once, waits for all, and joins what they return.
func (s *set) each(f func(m *member) error) error {
	errs := make([]error, len(s.members))
	var all sync.WaitGroup
	for i, m := range s.members {
		all.Go(func() { // ends when f does; waited for below
			errs[i] = m.events.Guarded("a hook", func() error { return f(m) })
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *set) enter(p life.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = max(s.phase, p)
}

// refusal is why nothing can be changed any more, or nil.
func (s *set) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase.Refusal()
}

// Start starts all pools at once, each as its own Config.Start says. Then it polls every server,
// and goes on polling until Stop. It blocks until every server was polled once, at most until ctx
// ends. If one pool cannot start, what has been started is closed for good, and Start returns why:
// make another one to try again.
func (s *set) Start(ctx context.Context) error {
	if err := s.beginStart(); err != nil {
		return err
	}
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := s.each(func(m *member) error {
		startErr := m.pool.Start(starting)
		if startErr != nil && errors.Is(context.Cause(starting), errSibling) {
			return nil // the first has the reason
		}
		if startErr != nil {
			cancel(errSibling)
		}
		return startErr
	})
	if err != nil {
		return errors.Join(err, s.Abort()) //nolint:contextcheck // Abort is for when no time is left
	}
	_ = s.pollAll(ctx) // a server that was not polled is polled later
	s.startPolling()
	s.pollUnsettled()
	return nil
}

// startPolling starts the pollers.
func (s *set) startPolling() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == life.Starting {
		s.phase = life.Running
	}
	for _, m := range s.members {
		m.poller.start() // does nothing after a stop that has come meanwhile
	}
}

func (s *set) beginStart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.phase.CanStart("replica"); err != nil {
		return fmt.Errorf("replica: start %q: %w", s.name, err)
	}
	s.phase = life.Starting
	return nil
}

// Drain refuses new work on every pool, as its own Drain does, and waits for the work in flight on
// all of them at once. It blocks at most until ctx ends. Its error then names the pools and how
// many connections are held, and Holders lists them.
func (s *set) Drain(ctx context.Context) error {
	s.enter(life.Draining)
	return s.each(func(m *member) error { return m.pool.Drain(ctx) })
}

// Stop ends the polls, and drains and closes every pool at once, as its own Stop does. It returns
// by the end of ctx; errors of all pools are joined and named. It may be called without Start, more
// than once and concurrently.
func (s *set) Stop(ctx context.Context) error {
	s.endPolls()
	err := s.each(func(m *member) error { return errors.Join(m.poller.wait(ctx), m.pool.Stop(ctx)) })
	if p := s.currentRefuser(); p != nil {
		err = errors.Join(err, p.Stop(ctx))
	}
	s.enter(life.Stopped)
	return err
}

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (s *set) Abort() error {
	s.endPolls()
	err := s.each(func(m *member) error { return m.pool.Abort() })
	if p := s.currentRefuser(); p != nil {
		err = errors.Join(err, p.Abort())
	}
	//nolint:forbidigo // Abort has no caller's context
	grace, cancel := context.WithTimeout(context.Background(), abortGrace)
	defer cancel()
	for _, m := range s.members {
		err = errors.Join(err, m.poller.wait(grace))
	}
	s.enter(life.Stopped)
	return err
}

// endPolls cancels the polls under way too: a pool's Stop waits for its connection of checks.
func (s *set) endPolls() {
	s.enter(life.Stopping)
	for _, m := range s.members {
		m.poller.stop()
	}
}

// Pause makes callers of every pool wait instead of failing, as its own Pause does: for a failover
// that is planned. If one pool cannot be paused within ctx, none is. To pause one alone, use its
// own Pause.
func (s *set) Pause(ctx context.Context) error {
	err := s.each(func(m *member) error { return m.pool.Pause(ctx) })
	if err != nil {
		s.Resume()
	}
	return err
}

// Resume ends a Pause, and waiting callers go on. It does not block.
func (s *set) Resume() {
	for _, m := range s.members {
		m.pool.Resume()
	}
}

// Reset closes every connection of every pool, as its own Reset does. It does not block.
func (s *set) Reset() {
	for _, m := range s.members {
		m.pool.Reset()
	}
}
