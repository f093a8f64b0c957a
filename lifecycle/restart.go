package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// The back-off of [DeathPolicyRestart].
const (
	restartFirst   = time.Second
	restartLongest = 30 * time.Second
	restartHealthy = time.Minute // after being up for so long, it starts from the first delay again
)

// restarter restarts components that died, and with each all that depends on it. Its goroutine is
// there only while something is down. Owner: the registry; it ends when all is up again, or at a
// shutdown; stop waits for it.
//
// All fields are guarded by Registry.mu.
type restarter struct {
	r       *Registry
	down    map[*node]time.Time // what died, and when to start it again
	running bool
	halted  bool
	unhold  func()        // readiness is held from a death until all is up again; nil: it is not
	began   time.Time     // when the first of what is down died
	walk    *walk         // the one under way
	nudge   chan struct{} // 1 buffered: look again
	idle    chan struct{} // closed while the goroutine is not there
}

func newRestarter(r *Registry) *restarter {
	m := &restarter{r: r, down: make(map[*node]time.Time), nudge: make(chan struct{}, 1), idle: make(chan struct{})}
	close(m.idle)
	return m
}

// addLocked takes in a component that died after it lived for so long.
func (m *restarter) addLocked(n *node, lived time.Duration) func() {
	if lived >= restartHealthy {
		n.attempt = 0
	}
	if m.unhold == nil {
		m.unhold, m.began = m.r.monitor.Hold("restarting"), time.Now() // INV-3
	}
	m.failedLocked(n)
	return m.wake
}

// failedLocked plans the next attempt.
func (m *restarter) failedLocked(n *node) {
	delay := restartDelay(n.attempt)
	n.attempt++
	m.down[n] = time.Now().Add(delay)
	m.r.emitLocked(slog.LevelWarn, n, event.PhaseRestart, func(i event.Info) event.Event {
		with := m.r.namesLocked(withDependents(m.r.graph, n.id)[1:])
		return &event.Restarting{Info: i, Attempt: n.attempt, Delay: delay, With: with}
	})
}

// restartDelay is how long to wait before an attempt, counted from 0: 1 s, 2 s, 4 s … 30 s, of
// which a random part up to a half is taken off, so that what died together does not come back
// together.
func restartDelay(attempt int) time.Duration {
	d := restartLongest
	if attempt < 5 {
		d = restartFirst << attempt
	}
	return d - rand.N(d/2+1) //nolint:gosec // no secret
}

// wake sets the goroutine to work.
func (m *restarter) wake() {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	switch {
	case m.halted || len(m.down) == 0 || m.r.phase != phaseUp:
	case m.running:
		m.nudged()
	default:
		m.running = true
		m.idle = make(chan struct{})
		go m.run(m.r.values)
	}
}

// nudged makes the goroutine look again.
func (m *restarter) nudged() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// haltLocked ends all restarts: a shutdown takes over.
func (m *restarter) haltLocked() {
	m.halted = true
	if m.walk != nil {
		m.walk.takeOverLocked()
		if m.walk.up { // what is stopping may go on: the shutdown would do the same
			m.walk.cancel(ErrShutdown)
		}
	}
	m.nudged()
}

// stop waits until the goroutine is gone, after haltLocked.
func (m *restarter) stop() {
	m.r.mu.Lock()
	idle := m.idle
	m.r.mu.Unlock()
	<-idle
}

// run takes down what has to be down and brings up what may be up, until all is up.
func (m *restarter) run(ctx context.Context) {
	r := m.r
	r.unlabel()
	defer close(m.idle)
	for {
		m.takeDown(ctx)
		m.bringUp(ctx)
		r.mu.Lock()
		wait, done := m.nextLocked()
		r.mu.Unlock()
		if done {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.nudge:
		}
		timer.Stop()
	}
}

// nextLocked says when to look again, and whether there is nothing to do any more. If all is up
// again it says so and releases readiness; if a shutdown has begun it does neither.
func (m *restarter) nextLocked() (wait time.Duration, done bool) {
	switch {
	case m.halted:
		m.running = false
		return 0, true
	case len(m.down) == 0:
		m.running = false
		m.unhold()
		m.unhold = nil
		now := time.Now()
		m.r.emit(&event.AllUp{Info: event.Info{Time: now, Elapsed: now.Sub(m.began), Phase: event.PhaseRestart}})
		return 0, true
	}
	var first time.Time
	for _, due := range m.down {
		if first.IsZero() || due.Before(first) {
			first = due
		}
	}
	return time.Until(first), false
}

// takeDown stops what died, and all that depends on it.
func (m *restarter) takeDown(ctx context.Context) {
	r := m.r
	r.mu.Lock()
	var members []*node
	for _, id := range withDependents(r.graph, m.rootsLocked(time.Time{})...) {
		if n := r.nodes[id]; n.state != StateStopped {
			members = append(members, n)
		}
	}
	if m.halted || len(members) == 0 {
		r.mu.Unlock()
		return
	}
	m.walkLocked(ctx, false, cmp.Or(r.tuned.Load().ShutdownTimeout, defaultShutdownTimeout), members)
	var after func()
	for _, n := range members {
		if n.state == StateAbandoned && !m.halted {
			after = r.failLocked(&ComponentError{
				Name: n.name, Phase: event.PhaseRestart, Err: fmt.Errorf("it hangs, so it cannot be started again: %w", n.err),
			})
		}
	}
	r.mu.Unlock()
	if after != nil {
		after()
	}
}

// bringUp starts what is due, and what depends on it and on nothing that is not.
func (m *restarter) bringUp(ctx context.Context) {
	r := m.r
	r.mu.Lock()
	now := time.Now()
	waiting := make(map[int32]bool)
	for _, id := range withDependents(r.graph, m.rootsLocked(now)...) {
		waiting[id] = true
	}
	var members []*node
	for _, id := range withDependents(r.graph, m.rootsLocked(time.Time{})...) {
		if n := r.nodes[id]; !waiting[id] && n.state == StateStopped {
			members = append(members, n)
		}
	}
	if m.halted || len(members) == 0 {
		r.mu.Unlock()
		return
	}
	for _, n := range members {
		delete(m.down, n)
		n.restarts++
	}
	w := m.walkLocked(ctx, true, cmp.Or(r.cfg.StartTimeout, defaultStartTimeout), members)
	w.cancel(errRolledBack) // or of no account
	m.retryLocked(members)
	r.mu.Unlock()
}

// retryLocked puts what did not come up back among what is down. What merely waited for a component
// that failed is tried again together with it.
func (m *restarter) retryLocked(members []*node) {
	var due time.Time
	for _, n := range members {
		if n.state == StateFailed || n.state == StateAbandoned {
			m.failedLocked(n)
			if at := m.down[n]; at.After(due) {
				due = at
			}
		}
	}
	for _, n := range members {
		if n.state == StateStarting || n.state == StateStopped {
			m.down[n] = due
		}
	}
}

// rootsLocked are the components that died and are not due at the given time; all of them, for the
// zero time.
func (m *restarter) rootsLocked(at time.Time) []int32 {
	var roots []int32
	for n, due := range m.down {
		if at.IsZero() || due.After(at) {
			roots = append(roots, n.id)
		}
	}
	return roots
}

// coversLocked reports whether n is down, or about to be taken down, because of something it
// depends on.
func (m *restarter) coversLocked(n *node) bool {
	if len(m.down) == 0 {
		return false
	}
	return slices.Contains(withDependents(m.r.graph, m.rootsLocked(time.Time{})...), n.id)
}

// walkLocked does a walk, without the lock, and returns with it.
func (m *restarter) walkLocked(ctx context.Context, up bool, limit time.Duration, members []*node) *walk {
	m.r.started.reportLocked() // from now on its steps are gone
	w := m.r.newWalkLocked(ctx, up, time.Now().Add(limit), members)
	m.walk = w
	m.r.unlock()
	w.waitUntilDone()
	m.r.mu.Lock()
	m.walk = nil
	return w
}
