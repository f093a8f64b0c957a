package eviction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// ErrStopped is returned by [Evictor.Start] and [Evictor.Round] after Stop.
var ErrStopped = errors.New("eviction: stopped")

// Evictor closes what a [Pool] does not need and keeps its MinIdle open. It has no goroutine: a
// timer wakes it at its next deadline, and where there is none, or only that of a connection's age,
// it sleeps until [Evictor.Wake]. All methods are safe for concurrent use.
type Evictor struct {
	pool   Pool
	faults error // of the policy given to New; reported by Start

	asleep atomic.Bool   // demand is not being sampled, and Wake is to see that it is
	turn   chan struct{} // holds a token while a round is under way, and for good once Stop has got it
	ended  chan struct{} // closed when Stop has got the turn

	mu       sync.Mutex // guards the following; never held over a call of pool
	planner  *planner   // set by Start
	policy   Policy
	changes  int                // of policy: a round that has begun before one speaks for the past
	timer    *time.Timer        // set by Start
	deadline time.Time          // for which timer is set; zero: it is not set, or to run at once
	base     context.Context    //nolint:containedctx // of the rounds that the timer begins: it has the values of Start's, and ends with Stop
	end      context.CancelFunc // of base; set by Start
	stopped  bool
}

// New returns a stopped evictor. It does not touch the pool.
func New(pool Pool, policy Policy) *Evictor {
	return &Evictor{pool: pool, policy: policy, faults: policy.Validate(), turn: make(chan struct{}, 1), ended: make(chan struct{})}
}

// String returns the type of the pool.
func (e *Evictor) String() string { return fmt.Sprintf("eviction.Evictor{%T}", e.pool) }

// Format prints what String returns, for every verb: the pool may hold secrets, and changes.
func (e *Evictor) Format(f fmt.State, _ rune) { printing.Format(f, e) }

// LogValue returns what String returns.
func (e *Evictor) LogValue() slog.Value { return printing.LogValue(e) }

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
	}
	if e.end != nil {
		e.end()
	}
	e.mu.Unlock()

	select { // first without ctx: at rest, Stop succeeds even when ctx has ended
	case e.turn <- struct{}{}:
		close(e.ended)
		return nil
	case <-e.ended:
		return nil
	default:
	}
	select {
	case e.turn <- struct{}{}:
		close(e.ended)
		return nil
	case <-e.ended:
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
		e.timer.Reset(e.planner.policy.Interval)
	}
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
	e.timer.Reset(0)
	return nil
}

// Round does one round now, in the caller's goroutine, after one that is under way: it samples
// demand, sweeps what is due, and fills. It returns what the sweep did and the joined errors of the
// pool's Sweep and Fill. It is for callers that cannot wait for the timer. Without Start, and after
// Stop, it returns ErrStopped.
func (e *Evictor) Round(ctx context.Context) (Swept, error) {
	select {
	case e.turn <- struct{}{}:
	case <-e.ended:
		return Swept{}, ErrStopped
	case <-ctx.Done():
		return Swept{}, context.Cause(ctx)
	}
	defer func() { <-e.turn }()
	base := e.running()
	if base == nil {
		return Swept{}, ErrStopped
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(base, cancel)() //nolint:contextcheck // it only tells of Stop
	return e.round(ctx)
}

// tick is the timer's function: one round, and the timer set for the next. While a requested round
// is under way, it leaves the work to that one.
func (e *Evictor) tick() {
	select {
	case e.turn <- struct{}{}:
	default:
		e.postpone()
		return
	}
	defer func() { <-e.turn }()
	ctx := e.running()
	if ctx == nil {
		return
	}
	changes := e.changesSoFar()
	_, _ = e.round(ctx) // the pool reports its own errors; here they have only set the next deadline
	e.rearm(changes)
}

// postpone sets the timer one interval ahead.
func (e *Evictor) postpone() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.deadline = time.Now().Add(e.planner.policy.Interval)
		e.timer.Reset(e.planner.policy.Interval)
	}
}

// running returns the context that ends with Stop, or nil if the evictor is not running: the turn
// may have been waited for, and Stop called meanwhile.
func (e *Evictor) running() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer == nil || e.stopped {
		return nil
	}
	return e.base
}

// round needs the turn.
func (e *Evictor) round(ctx context.Context) (Swept, error) {
	now, open, peak := time.Now(), e.pool.Open(), e.pool.Peak()
	e.mu.Lock()
	todo, changes := e.planner.plan(now, open, peak), e.changes
	e.mu.Unlock()

	var swept Swept
	var sweepErr, fillErr error
	if todo.sweep {
		swept, sweepErr = e.pool.Sweep(ctx, todo.order)
		e.mu.Lock()
		if changes == e.changes {
			e.planner.swept(now, swept)
		}
		e.mu.Unlock()
	}
	if todo.fill > 0 && ctx.Err() == nil {
		_, fillErr = e.pool.Fill(ctx, todo.fill)
		e.mu.Lock()
		e.planner.filled(time.Now(), fillErr != nil, rand.Float64())
		e.mu.Unlock()
	}
	return swept, errors.Join(sweepErr, fillErr)
}

func (e *Evictor) changesSoFar() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changes
}

// rearm sets the timer for the next deadline, and goes to sleep if that does not depend on demand.
// If the policy has changed since the round began, the next begins at once.
func (e *Evictor) rearm(changes int) {
	if e.setTimer(e.pool.Open(), 0, changes) {
		return
	}
	// Whatever has begun since the round looked is either seen by this second look, or its Wake
	// sees asleep.
	e.setTimer(e.pool.Open(), e.pool.Peak(), changes)
}

// setTimer reports false if the evictor is asleep now.
func (e *Evictor) setTimer(open, peak, changes int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return true
	}
	now := time.Now()
	if peak > 0 {
		e.planner.demand.add(now, peak)
	}
	at, attentive := e.planner.next(now, open)
	if changes != e.changes {
		at, attentive = now, true
	}
	e.deadline = at
	if at.IsZero() {
		e.timer.Stop()
	} else {
		e.timer.Reset(at.Sub(now))
	}
	e.asleep.Store(!attentive)
	return attentive
}
