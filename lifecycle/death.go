package lifecycle

import (
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// watchDoneLocked waits for the death of a component that has come up, if it can end by itself.
// Owner of the goroutine: the registry. It ends with the component, or when that begins to stop;
// the shutdown waits for it.
func (r *Registry) watchDoneLocked(n *node) {
	if n.died == nil || n.state != StateUp {
		return
	}
	died, stops := n.died, make(chan struct{})
	n.unwatch = stops
	r.watchers.Go(func() {
		r.unlabel()
		select {
		case <-stops:
		case err := <-died: // nil for a closed channel: it has completed
			r.died(n, died, err)
		}
	})
}

// unwatchLocked ends the watch over a component that begins to stop. A death that was not noticed
// yet is noted first: what dies together is seen together.
func (r *Registry) unwatchLocked(n *node, now time.Time) {
	if n.unwatch == nil {
		return
	}
	close(n.unwatch)
	n.unwatch = nil
	select {
	case err := <-n.died:
		// What follows from it is under way, or it is a restart of what this depends on.
		if death := r.diedLocked(n, err, now); death != nil && r.shutdown != nil && n.onDeath != DeathPolicyIgnore {
			r.shutdown.deaths = append(r.shutdown.deaths, death)
		}
	default:
	}
}

// stopWatchers ends the watch over components that were given up or held, and waits for all.
func (r *Registry) stopWatchers() {
	r.mu.Lock()
	for _, n := range r.nodes {
		if n.unwatch != nil {
			close(n.unwatch)
			n.unwatch = nil
		}
	}
	r.mu.Unlock()
	r.watchers.Wait()
}

// died takes note that a component has ended by itself, unless it was restarted meanwhile.
func (r *Registry) died(n *node, died <-chan error, err error) {
	now := time.Now()
	r.mu.Lock()
	var after func()
	if n.died == died {
		lived := now.Sub(n.since)
		if death := r.diedLocked(n, err, now); death != nil {
			after = r.onDeathLocked(n, death, lived)
		}
	}
	r.mu.Unlock()
	if after != nil {
		after()
	}
}

// diedLocked notes that a component has ended by itself, unless it is being stopped, and returns
// the error of its death.
func (r *Registry) diedLocked(n *node, err error, now time.Time) error {
	lived := now.Sub(n.since)
	if err == nil {
		if r.becomeLocked(n, StateCompleted, now) {
			r.emitLocked(slog.LevelInfo, n, event.PhaseRun, func(i event.Info) event.Event {
				i.Elapsed = lived
				return &event.Completed{Info: i}
			})
		}
		return nil
	}
	if !r.becomeLocked(n, StateDead, now) {
		return nil
	}
	death := &ComponentError{Name: n.name, Phase: event.PhaseRun, Elapsed: lived, Err: err}
	n.err = death
	r.emitLocked(slog.LevelError, n, event.PhaseRun, func(i event.Info) event.Event {
		i.Elapsed, i.Err = lived, death
		return &event.Died{Info: i, Policy: n.onDeath.String()}
	})
	return death
}

// onDeathLocked applies the DeathPolicy, and returns what is to be done about it without the lock.
func (r *Registry) onDeathLocked(n *node, death error, lived time.Duration) func() {
	switch {
	case n.onDeath == DeathPolicyIgnore || r.phase == phaseClosed:
		return nil
	case r.phase == phaseClosing:
		r.shutdown.deaths = append(r.shutdown.deaths, death)
		return nil
	case r.restarts.coversLocked(n):
		return nil // it dies of what it depends on, and will come back with it
	case n.onDeath == DeathPolicyRestart:
		return r.restarts.addLocked(n, lived)
	}
	return r.failLocked(death)
}

// failLocked shuts the registry down because of a failure, and returns what is to be done about it
// without the lock.
//
//nolint:contextcheck,nolintlint // the shutdown has the values of Start's context; nolintlint does not see the use
func (r *Registry) failLocked(failure error) func() {
	if r.phase == phaseStarting && r.starting != nil {
		r.starting.failLocked(failure)
		return r.starting.poke
	}
	c, first := r.beginShutdownLocked(failure, true)
	if !first {
		return nil
	}
	ctx := r.values
	// Owner: the registry; it ends with the shutdown; callers of Shutdown and Run wait for it.
	return func() { go r.close(ctx, c) }
}
