package redispool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// errResumed ends a Pause that had not yet come to rest.
var errResumed = errors.New("redispool: Resume was called meanwhile")

// Pause makes callers wait during a planned failover, instead of failing. From now on new commands,
// Conns and Watches queue, within AcquireTimeout. Pause ends commands that block on the server. It
// blocks until the work in flight has finished and every connection of the pool is closed, so that
// Resume connects anew. If ctx ends before, or Resume is called, callers go on as if there had been
// no pause. The error then names the commands in flight, the waiting callers and the holders. Code
// that begins a command on the client while it holds a Conn or a Watch is held up until ctx ends.
// Subscriptions and the health check go on. Pausing a paused pool does nothing. Drain, Stop and
// Abort end a pause.
func (p *Pool) Pause(ctx context.Context) error {
	if err := p.state.BeginChange(ctx); err != nil {
		return fmt.Errorf("redispool: pause %q: %w", p.poolName(), err)
	}
	defer p.state.EndChange()
	if p.permits.isPaused() {
		return nil
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	p.onResume(end)
	defer p.onResume(nil)
	p.permits.set(func(v *permits) { v.paused = true })
	p.pauseBegins()
	if p.gate.Closed() { // Drain has come meanwhile, and ended pauses before there was one
		p.resume(poolkeeper.ErrDraining)
	}
	err := p.settle(ctx)
	if err == nil {
		err = p.empty(ctx)
	}
	if err != nil {
		left := p.inFlight()
		p.resume(err)
		if errors.Is(err, poolkeeper.ErrDraining) {
			return fmt.Errorf("redispool: pause %q: %w", p.poolName(), err)
		}
		return fmt.Errorf("redispool: pause %q: %s; callers go on: %w", p.poolName(), left, err)
	}
	p.countGeneration()
	return nil
}

// Resume ends a Pause and lets its callers go on, in order of arrival. It does not block.
func (p *Pool) Resume() { p.resume(errResumed) }

func (p *Pool) resume(why error) {
	p.mu.Lock()
	end := p.endPause
	p.mu.Unlock()
	if end != nil {
		end(why)
	}
	p.permits.set(func(v *permits) { v.paused = false })
	p.pauseEnds(why)
}

// pauseBegins says that callers wait.
func (p *Pool) pauseBegins() {
	p.mu.Lock()
	p.paused = time.Now()
	p.mu.Unlock()
	p.events.Emit(event.OfPause(p.Stats().InUse))
}

// pauseEnds says that callers go on, if they have waited, and why.
func (p *Pool) pauseEnds(why error) {
	p.mu.Lock()
	began := p.paused
	p.paused = time.Time{}
	p.mu.Unlock()
	if began.IsZero() {
		return
	}
	if errors.Is(why, errResumed) || errors.Is(why, poolkeeper.ErrDraining) {
		why = nil // as it should end
	}
	p.events.Emit(event.OfResume(time.Since(began), why))
}

func (p *Pool) onResume(end context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endPause = end
}

// empty closes the connections of a pool at rest. One may be being opened by the pool itself, so it
// looks again.
func (p *Pool) empty(ctx context.Context) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.recycle(ctx, func(*conn) bool { return true })
		open := 0
		for _, n := range p.allNodes() {
			open += n.Open()
		}
		if open == 0 && ctx.Err() == nil {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// Reset closes every connection opened so far. Idle ones are closed within moments. One in use is
// closed when it comes back: within milliseconds, that of a Conn within a second after its Close.
// Call it when the server behind the name, or a password, has changed. Subscriptions are left
// alone. It does not block.
func (p *Pool) Reset() {
	if !p.dialing.Enter() {
		return
	}
	p.countGeneration()
	p.events.Emit(event.OfReset(event.OnRequest, p.Stats().Open, nil))
	if p.recycles.Add(1) > 1 { // the one under way goes on for this call
		p.dialing.Leave()
		return
	}
	// Owner: the pool, which waits for it at Stop as for a dial. It ends by itself, or with the
	// pool's life.
	go func() {
		defer p.dialing.Leave()
		for asked := p.recycles.Load(); ; asked = p.recycles.Load() {
			p.recycle(p.life, func(*conn) bool { return true })
			if p.recycles.CompareAndSwap(asked, 0) {
				return
			}
		}
	}()
}

// countGeneration notes that the connections to all nodes are replaced.
func (p *Pool) countGeneration() {
	p.met.count(generationsLost)
	for _, n := range p.allNodes() {
		if n.met != &p.met {
			n.met.counts[generationsLost].Add(1) // the pool's is counted
		}
	}
}

// recycle closes what is idle now, the longest idle first, and condemns what remains of those that
// are old.
func (p *Pool) recycle(ctx context.Context, isOld func(*conn) bool) {
	for _, n := range p.allNodes() {
		n.recycle(ctx, isOld)
	}
}

func (n *node) recycle(ctx context.Context, isOld func(*conn) bool) {
	old := slices.DeleteFunc(n.list(), func(c *conn) bool { return !isOld(c) })
	if len(old) > 0 && n.upkeep.Lock(ctx) == nil {
		_, _ = n.visitIdle(ctx, nil, func(idle []*idleConn) { // what it does not get is condemned below
			for _, l := range idle {
				if isOld(l.conn) {
					l.closeFor = reload
				}
			}
		})
		n.upkeep.Unlock()
	}
	for _, c := range old {
		c.condemn(reload)
	}
	n.evictor.Wake()
}
