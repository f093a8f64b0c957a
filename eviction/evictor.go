package eviction

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStopped is returned by [Evictor.Start] after Stop.
var ErrStopped = errors.New("eviction: stopped")

// Evictor closes what a [Pool] does not need and keeps its MinIdle open. It has no goroutine: a
// timer wakes it at its next deadline, and where there is none, or only that of a connection's age,
// it sleeps until [Evictor.Wake]. All methods are safe for concurrent use.
type Evictor struct {
	pool   Pool
	faults error // of the policy given to New; reported by Start

	asleep atomic.Bool // demand is not being sampled, and Wake is to see that it is

	mu       sync.Mutex // guards the following; never held over a call of pool
	planner  *planner   // set by Start
	policy   Policy
	changes  int                // of policy: a round that has begun before one speaks for the past
	round    chan struct{}      // closed when the round under way has ended; nil: none is under way
	timer    *time.Timer        // set by Start
	deadline time.Time          // for which timer is set; zero: it is not set, or to run at once
	due      time.Time          // when the next round was to begin, or the one under way; zero: none is due
	base     context.Context    //nolint:containedctx // of all rounds: it has the values of Start's, and ends with Stop
	end      context.CancelFunc // of base; set by Start
	stopped  bool
}

// New returns a stopped evictor. It does not touch the pool.
func New(pool Pool, policy Policy) *Evictor {
	return &Evictor{pool: pool, policy: policy, faults: policy.Validate()}
}

// Format prints the type of the pool, for every verb: the pool may hold secrets, and changes.
func (e *Evictor) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "eviction.Evictor{%T}", e.pool) }

// Start begins to work, with a first round at once in the background: it fills the pool to MinIdle.
// It does not block. The values of ctx reach the pool, its end does not: only Stop ends the
// evictor. Start returns the faults of the policy given to New, and ErrStopped after Stop; starting
// twice does nothing.
func (e *Evictor) Start(ctx context.Context) error {
	if e.faults != nil {
		return e.faults
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if e.timer != nil {
		return nil
	}
	e.planner = newPlanner(e.policy, time.Now())
	e.base, e.end = context.WithCancel(context.WithoutCancel(ctx))
	e.due = time.Now()
	e.timer = time.AfterFunc(0, e.tick)
	return nil
}

// Stop ends the evictor and waits until a round under way has returned, or ctx ends. It may be
// called more than once, concurrently, and without Start. Its error wraps context.Cause(ctx).
func (e *Evictor) Stop(ctx context.Context) error {
	e.mu.Lock()
	e.stopped = true
	if e.timer != nil {
		e.timer.Stop()
		e.end()
	}
	round := e.round
	e.mu.Unlock()
	if round == nil {
		return nil // at rest, Stop succeeds even when ctx has ended
	}
	select {
	case <-round:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("eviction: stop: a sweep is still under way: %w", context.Cause(ctx))
	}
}

// Wake tells the evictor that its pool is being used again. While the evictor is awake it costs one
// atomic load, so that a pool may call it for every acquisition, after Peak counts it, which keeps
// MinIdle idle beside what is in use. A pool must call it after it has opened a connection (and
// Open counts it) or found one dead, or else an evictor that has gone to sleep does not learn of
// it. It does not block.
func (e *Evictor) Wake() {
	if !e.asleep.Load() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || !e.asleep.CompareAndSwap(true, false) {
		return
	}
	soon := time.Now().Add(e.planner.policy.Interval)
	if e.deadline.IsZero() || e.deadline.After(soon) {
		e.deadline = soon
		e.setDueLocked(soon)
		e.timer.Reset(e.planner.policy.Interval)
	}
}

// setDueLocked notes when the next round is to begin. While a round is under way its own time
// counts.
func (e *Evictor) setDueLocked(at time.Time) {
	if e.round == nil {
		e.due = at
	}
}

// tolerated is how long a round may take or be delayed without being late, as by a busy machine.
const tolerated = time.Second

// Late returns how long the evictor is overdue, because a round does not return or its timer has not
// fired. Up to a second is on time. It returns 0 if the evictor is on time, has nothing to do, was not
// started or is stopped. It uses the monotonic clock, and does not block.
func (e *Evictor) Late() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || e.due.IsZero() {
		return 0
	}
	return max(time.Since(e.due)-tolerated, 0)
}

// SetPolicy changes the policy from the next round on, and brings that round forward. It returns
// the faults of policy, and changes nothing if there are any.
func (e *Evictor) SetPolicy(policy Policy) error {
	if err := policy.Validate(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.policy = policy
	if e.timer == nil || e.stopped {
		return nil
	}
	e.planner.setPolicy(policy, time.Now())
	e.changes++
	e.asleep.Store(false)
	e.deadline = time.Time{}
	e.setDueLocked(time.Now())
	e.timer.Reset(0)
	return nil
}

// tick is the timer's function: one round, and the timer set for the next. If one is under way it
// does nothing, because that one sets the timer when it ends.
func (e *Evictor) tick() {
	e.mu.Lock()
	if e.stopped || e.round != nil {
		e.mu.Unlock()
		return
	}
	e.round = make(chan struct{})
	e.mu.Unlock()

	now, open, peak := time.Now(), e.pool.Open(), e.pool.Peak()
	e.mu.Lock()
	todo, changes := e.planner.plan(now, open, peak), e.changes
	e.mu.Unlock()
	defer e.endRound(changes)

	if todo.sweep {
		next := e.pool.Sweep(e.base, todo.order)
		e.mu.Lock()
		if changes == e.changes {
			e.planner.swept(now, next)
		}
		e.mu.Unlock()
	}
	if todo.fill > 0 && e.base.Err() == nil {
		err := e.pool.Fill(e.base, todo.fill)
		e.mu.Lock()
		e.planner.filled(time.Now(), err != nil, rand.Float64())
		e.mu.Unlock()
	}
}

// endRound sets the timer for the next deadline, and falls asleep if that does not depend on
// demand. If the policy has changed since the round began, the next begins at once.
func (e *Evictor) endRound(changes int) {
	open := e.pool.Open()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	at, attentive := e.planner.next(now, open)
	if !attentive {
		at, attentive = e.fallAsleepLocked()
	}
	if changes != e.changes {
		at, attentive = now, true
	}
	e.asleep.Store(!attentive)
	close(e.round)
	e.round = nil
	if e.stopped {
		return
	}
	e.deadline, e.due = at, at
	if at.IsZero() {
		e.timer.Stop()
	} else {
		e.timer.Reset(at.Sub(now))
	}
}

// fallAsleepLocked looks at demand once more. What has begun since the round looked is either seen
// by this second look, or its Wake finds the evictor asleep.
func (e *Evictor) fallAsleepLocked() (at time.Time, attentive bool) {
	e.asleep.Store(true)
	e.mu.Unlock()
	open, peak := e.pool.Open(), e.pool.Peak()
	e.mu.Lock()
	now := time.Now()
	if peak > 0 {
		e.planner.demand.add(now, peak)
	}
	at, attentive = e.planner.next(now, open)
	if woken := !e.asleep.Load(); woken && !attentive {
		return now.Add(e.planner.policy.Interval), true
	}
	return at, attentive
}
