package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// errResumed ends a Pause that had not yet come to rest.
var errResumed = errors.New("sqlpool: Resume was called meanwhile")

// pauseFor makes callers wait, until what is in use has come back and every connection is closed.
func (m *manager) pauseFor(ctx context.Context) error {
	if err := m.state.BeginChange(ctx); err != nil {
		return fmt.Errorf("sqlpool: pause %q: %w", m.poolName(), err)
	}
	defer m.state.EndChange()
	if !m.back.pause() {
		return nil // it is paused already
	}
	m.paused.Store(true)
	m.pauseBegins()
	if m.state.At().Refusal() != nil { // Drain has come meanwhile, and ended pauses before there was one
		m.resume(nil)
	}
	if err := m.emptied(ctx); err != nil {
		who := m.held.Describe(time.Now())
		m.resume(err)
		if going := m.state.At().Refusal(); going != nil && errors.Is(err, errResumed) {
			return fmt.Errorf("sqlpool: pause %q: %w", m.poolName(), going)
		}
		return fmt.Errorf("sqlpool: pause %q: %s; callers go on: %w", m.poolName(), who, err)
	}
	m.metrics.generations.Add(1)
	return nil
}

// resume lets callers go on. err is why their pause had to be given up, if it had.
func (m *manager) resume(err error) {
	if m.paused.CompareAndSwap(true, false) {
		m.back.resume()
		m.pauseEnds(err)
	}
}

// pauseBegins says that callers wait.
func (m *manager) pauseBegins() {
	m.pausedAt.Store(int64(monotime.Now()))
	m.events.Emit(event.OfPause(m.stats().InUse))
}

// pauseEnds says that callers go on.
func (m *manager) pauseEnds(err error) {
	m.events.Emit(event.OfResume(monotime.Since(monotime.Time(m.pausedAt.Load())), err))
}

// emptied waits until nothing is in use, throws away what is idle, and waits until nothing is open
// or about to be. It gives up when the pause is ended.
func (m *manager) emptied(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if !m.paused.Load() {
			return errResumed
		}
		settled := !m.back.opening() // before the counts: what has been opened since is in them
		var s poolkeeper.Stats
		m.back.stats(&s)
		if settled && s.InUse == 0 && s.Open == 0 {
			return nil
		}
		if settled && s.InUse == 0 {
			m.outdate(poolkeeper.EvictedReload) // again and again: a connection may have been opened meanwhile
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}
