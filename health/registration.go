package health

import (
	"context"
	"fmt"
	"slices"
)

// Registration is one check in its monitor. Its methods are safe for concurrent use.
type Registration struct {
	m     *Monitor
	state *checkState
}

// Register adds a check; it may be called before and after Start. The error lists every fault of
// the check, or wraps ErrDuplicate or ErrStopped. Until its first result a critical check is not
// ready.
func (m *Monitor) Register(c Check) (*Registration, error) {
	if err := c.validate(m.cfg); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == stopped {
		return nil, fmt.Errorf("health: check %q: %w", c.Name, ErrStopped)
	}
	at, found := slices.BinarySearchFunc(m.checks, c.Name, byName)
	if found {
		return nil, fmt.Errorf("health: check %q: %w", c.Name, ErrDuplicate)
	}
	m.registered++
	now := m.clock.now()
	s := newCheckState(c.withDefaults(m.cfg), spread(m.registered, m.offset), now)
	m.checks = slices.Insert(m.checks, at, s)
	if m.phase == running { // before Start pages say only that it has not started
		m.sched.planFirst(s, now)
		m.publishLocked(now)
		m.sched.arm(now, m.pub.next())
	}
	return &Registration{m, s}, nil
}

// Validate reports every fault that Register would find in c by itself, at once, joined. It
// registers nothing, and is safe for concurrent use.
func (m *Monitor) Validate(c Check) error { return c.validate(m.cfg) }

// Name returns the name of the check.
func (r *Registration) Name() string { return r.state.check.Name }

// Format prints the name of the check, for every verb: fmt would read what changes meanwhile, and
// print errors whose text may hold secrets.
func (r *Registration) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "health.Registration{%s}", r.Name())
}

// Observe tells the check what live traffic saw; it makes a Registration a poolkeeper.Observer. It
// never changes the verdict by itself. What is news brings the next run forward, at most once per
// RetryInterval: an error while the check does not fail, a success while it does. nil costs a few
// nanoseconds and allocates nothing, so it may be called for every command.
func (r *Registration) Observe(err error) {
	s := r.state
	if err == nil && !s.traffic.Load() {
		s.traffic.Store(true)
	}
	if news := (err == nil) == s.failing.Load(); !news {
		return
	}
	if !s.hastened.Load() && s.hastened.CompareAndSwap(false, true) {
		r.hasten()
	}
}

// hasten brings the next run forward.
func (r *Registration) hasten() {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.clock.now(); m.phase == running && m.sched.hasten(r.state, now) {
		m.sched.arm(now, m.pub.next())
	}
}

// Remove takes the check out: pages forget it at once and its name is free. If its probe is
// running, its context is cancelled and Remove waits until it returned or ctx is done; then the
// error names the probe that hangs. May be called more than once, also while a probe hangs.
func (r *Registration) Remove(ctx context.Context) error {
	current := r.remove() //nolint:contextcheck // runs of other checks that find a place now are not the caller's
	if current == nil || await(ctx, current.done) {
		return nil
	}
	since := r.m.clock.wall(current.started)
	return fmt.Errorf("health: remove %q: its probe runs since %s: %w", r.Name(), stamp(since), context.Cause(ctx))
}

// remove takes the check out and returns the run that is still in its probe, nil if there is none.
func (r *Registration) remove() *run {
	m, s := r.m, r.state
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.removed {
		return s.run
	}
	s.removed = true
	if at, found := slices.BinarySearchFunc(m.checks, r.Name(), byName); found {
		m.checks = slices.Delete(m.checks, at, at+1)
	}
	m.pub.forget(subject{check: r.Name()})
	now := m.clock.now()
	m.sched.drop(s, now)
	m.publishLocked(now)
	if m.phase == running {
		m.settleLocked(now, false)
	}
	return s.run
}
