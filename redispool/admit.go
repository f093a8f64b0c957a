package redispool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// closedConnsEvery is how often a queue looks for Conns that were closed: go-redis does not say.
const closedConnsEvery = 2 * time.Millisecond

// errLifeEnded ends waits when the pool's life ends. No caller sees it.
var errLifeEnded = errors.New("redispool: the pool's life has ended")

// admit lets a command of the client itself in, with a permit. waited is how long it has queued for
// that, added to what it waited before. After nil the caller owes a dismiss.
func (n *node) admit(ctx context.Context, before time.Duration) (waited time.Duration, err error) {
	if err := n.refused(); err != nil {
		return before, err
	}
	if !n.enter() {
		return before, n.pool.refusal()
	}
	if n.valve.tryPass() { // in the gate: Pause stops permits first and then counts the callers in it
		return before, nil
	}
	n.gate.Leave()
	return n.queue(ctx, before, nil)
}

// dismiss ends a command that admit let in.
func (n *node) dismiss() {
	n.valve.done() // before it leaves the gate, so that the next caller is in it already
	n.gate.Leave()
}

// queue waits for a permit. waited includes what the caller waited before. After nil it owes a
// dismiss. If found is not nil and reports true meanwhile, queue returns errElsewhere.
func (n *node) queue(ctx context.Context, before time.Duration, found func() bool) (waited time.Duration, err error) {
	if n.lent.Load() > 0 {
		if n.valve.isFull() {
			n.rotate(ctx) // a Conn that was closed may still count
		}
		n.noticeClosed()
	}
	begun, heldUp := time.Now(), n.valve.isPaused()
	err = n.valve.pass(ctx, queueing{
		limit: n.pool.cfg.AcquireTimeout, waited: before, most: n.pool.config().MaxWaiting, mayWait: n.mayWait,
		found: found,
	})
	waited = before + time.Since(begun)
	if err == nil && heldUp && n.isDoor && n.gate.Closed() {
		n.dismiss() // it was not in flight when the drain began
		return waited, n.pool.refusal()
	}
	if err != nil && err != errElsewhere { //nolint:errorlint // it is bare
		err = n.notAdmitted(err, waited)
	}
	return waited, err
}

// mayWait is asked once a caller is in the queue, where a drain counts it, and an end of waits
// finds it.
func (n *node) mayWait() error {
	if n.isDoor && n.gate.Closed() {
		return n.pool.refusal()
	}
	return n.refused()
}

// notAdmitted turns the end of a wait for a permit into what the caller gets.
func (n *node) notAdmitted(err error, waited time.Duration) error {
	switch {
	case errors.Is(err, errLifeEnded):
		return n.pool.refusal()
	case errors.Is(err, poolkeeper.ErrDraining), errors.Is(err, poolkeeper.ErrClosed):
		return err
	}
	if down, ok := errors.AsType[*poolkeeper.DownError](err); ok {
		return n.delivered(down)
	}
	out := n.gaveUpAfter(err, waited)
	if n.valve.isPaused() || n.pool.valve.isPaused() {
		out.Err = fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err)
	}
	return out
}

// noticeClosed looks for Conns that were closed as long as callers queue and Conns hold permits.
func (n *node) noticeClosed() {
	if !n.noticing.CompareAndSwap(false, true) {
		return
	}
	// The timer's function ends with the queue, or with the pool's life; Stop waits for it as for a
	// dial.
	time.AfterFunc(closedConnsEvery, func() {
		n.noticing.Store(false)
		if !n.pool.dialing.Enter() {
			return
		}
		defer n.pool.dialing.Leave()
		if n.lent.Load() == 0 || n.valve.waiting() == 0 {
			return
		}
		if n.idle() > 0 {
			n.rotate(n.pool.life)
		}
		n.noticeClosed()
	})
}

// waitOutPause is for sessions of a Cluster's node, whose valve knows of permits only. waited
// includes what the caller waited before.
func (n *node) waitOutPause(ctx context.Context, before time.Duration) (waited time.Duration, err error) {
	if n.isDoor || !n.pool.valve.active.Load() {
		return before, nil
	}
	begun := time.Now()
	err = n.pool.valve.pass(ctx, queueing{limit: n.pool.cfg.AcquireTimeout, waited: before})
	waited = before + time.Since(begun)
	if err != nil {
		return waited, n.notAdmitted(err, waited)
	}
	n.pool.valve.done()
	return waited, nil
}
