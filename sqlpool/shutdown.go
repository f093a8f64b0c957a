package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
)

const (
	// cutGrace is how long after its deadline a Stop waits for what it has cut off to notice.
	cutGrace = 100 * time.Millisecond
	// abortGrace bounds how long an Abort may take to close connections that no caller holds.
	abortGrace = time.Second
)

// drain refuses new work from now on and waits for the work in flight (INV-8).
func (m *manager) drain(ctx context.Context) error {
	m.closeGate()
	if err := m.back.settle(ctx); err != nil {
		if n := m.held.Len(); n > 0 { // Stop names the holders, once
			return fmt.Errorf("sqlpool: drain %q: %s still held: %w",
				m.poolName(), plural.Of(n, "connection"), context.Cause(ctx))
		}
		return fmt.Errorf("sqlpool: drain %q: %w", m.poolName(), err)
	}
	return nil
}

// closeGate refuses new work. Callers that asked before are still served.
func (m *manager) closeGate() {
	m.state.Enter(life.Draining)
	m.gate.Close()
	m.resume(nil)
}

// stop drains and closes. abort is a stop that does not wait for callers.
func (m *manager) stop(ctx context.Context) error { return m.state.Stop(ctx, m.shutDown) }

func (m *manager) abort() error { return m.state.Abort(m.shutDown) }

// shutDown ends the pool's own work, waits for callers, and closes the connections. At the end of
// ctx it cuts off the callers that are left.
func (m *manager) shutDown(ctx context.Context, started <-chan struct{}) error {
	m.closeGate()
	var errs []error
	if !life.Closed(ctx, started) {
		errs = append(errs, errors.New("a Start is still under way"))
	}
	m.stopWatches()
	errs = append(errs, stillUnderWay(m.work.Wait(ctx)))
	if m.evictor != nil {
		errs = append(errs, m.evictor.Stop(ctx))
	}
	settled := m.back.settle(ctx)
	m.state.Enter(life.Stopping)
	errs = append(errs, m.stopBreaker(ctx))
	if settled == nil {
		closing, cancel := m.graceAfter(ctx)
		defer cancel()
		errs = append(errs, m.back.close(closing))
		if err := errors.Join(errs...); err == nil {
			return nil
		}
	}

	now, late := time.Now(), m.held.List()
	_ = m.back.close(ctx) // begins to close what is idle, in order
	cut, left := m.back.cut(settled == nil)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	after := errors.Join(m.back.settle(grace), m.back.close(grace))
	switch {
	case settled != nil:
		return &poolkeeper.HeldError{
			Pool: m.poolName(), Holders: late, Cut: cut, Left: left, Time: now,
			Err: errors.Join(append(errs, context.Cause(ctx))...),
		}
	case after != nil:
		return fmt.Errorf("sqlpool: stop %q: %w", m.poolName(), errors.Join(errs...))
	default:
		return nil // closing took a cut, and no caller lost a connection by it
	}
}

// stopBreaker ends trials, and waits for what they leave behind.
func (m *manager) stopBreaker(ctx context.Context) error {
	ctx, cancel := m.graceAfter(ctx)
	defer cancel()
	if err := m.breaker.Stop(ctx); err != nil {
		return fmt.Errorf("a trial of the server is still under way: %w", err)
	}
	return nil
}

// stillUnderWay says what a Stop has not waited for, because of err.
func stillUnderWay(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("connections are still being opened or closed: %w", err)
}

func (c *base) stopWatches() {
	c.end()
	c.mu.Lock()
	watches := c.watches
	c.mu.Unlock()
	for _, w := range watches {
		w.Stop() // waits for a look under way
	}
}

// graceAfter returns ctx, or a context of abortGrace if ctx has ended. That is enough time to close
// connections that no caller holds.
func (m *manager) graceAfter(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return context.WithCancel(ctx)
	}
	grace := cutGrace
	if m.state.Aborted(ctx) {
		grace = abortGrace
	}
	return context.WithTimeout(context.WithoutCancel(ctx), grace)
}

// handleClosed ends the pool's own work after a caller has closed the native handle. Work in flight
// goes on, and its connections are closed as it returns them.
func (c *base) handleClosed(ctx context.Context) error {
	c.state.Enter(life.Stopping)
	c.gate.Close()
	c.stopWatches()
	err := c.breaker.Stop(ctx)
	if c.evictor != nil {
		err = errors.Join(err, c.evictor.Stop(ctx))
	}
	return err
}
