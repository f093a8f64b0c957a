package sqlpool

import (
	"context"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
)

// component is what all pools have in common, adopted handles too.
type component struct{ m *manager }

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (b *component) Abort() error { return b.m.abort() }

// Stats returns one moment of the pool. It does not block.
func (b *component) Stats() poolkeeper.Stats { return b.m.stats() }

// SetName gives the pool the name it has in logs, errors and metrics. An empty name changes
// nothing.
func (b *component) SetName(name string) { b.m.state.SetName(name) }

// pool is what [Postgres], [MySQL] and [DB] have in common.
type pool struct{ component }

// Start reaches the server as the configuration's Start says, then keeps MinIdle connections open,
// evicts idle ones and reports leaks. It blocks until the server has answered once or the policy
// gives up, at most until ctx ends. A failed Start may be repeated.
func (p *pool) Start(ctx context.Context) error { return p.m.start(ctx) }

// Drain refuses new work with [poolkeeper.ErrDraining] from now on and waits until callers have
// returned their connections: open transactions, rows and acquired connections are finished, as are
// callers already waiting in the queue. It blocks at most until ctx ends. Its error then says how
// many connections are held, and Holders lists them.
func (p *pool) Drain(ctx context.Context) error { return p.m.drain(ctx) }

// Stop drains and closes the pool. It blocks until every connection is closed, and then returns
// nil. If ctx ends before, it cuts off the callers that still hold a connection, as far as the
// driver allows, and returns a [*poolkeeper.HeldError]. It may be called without Start, more than once and
// concurrently: all calls return the outcome of the first.
func (p *pool) Stop(ctx context.Context) error { return p.m.stop(ctx) }

// Reset closes every connection opened so far: idle ones now, those in use when they are returned.
// Call it when a password has changed, or the server behind the name. It does not block.
func (p *pool) Reset() { p.m.resetOnRequest() }

// Pause makes callers wait instead of failing, for a planned failover. From now on callers that ask
// for a connection queue, within AcquireTimeout. Pause blocks until every connection has been
// returned and closed, so that Resume connects anew. If ctx ends before, the pause is undone, and
// the error names the callers that hold a connection. Code that asks for a second connection while
// it holds one waits until ctx ends. Pausing a paused pool does nothing. Drain and Stop end a
// pause.
func (p *pool) Pause(ctx context.Context) error { return p.m.pauseFor(ctx) }

// Resume ends a Pause. Waiting callers go on, first in, first out. It does not block.
func (p *pool) Resume() { p.m.resume(nil) }

// Check probes the server on a connection of its own, which it dials at the first call. So a pool
// whose callers hold every connection counts as busy, not broken. If the server is too full for
// that connection, Check uses an idle one of the pool. If none is idle, it returns a reservation
// (health.Degraded). An answer that refuses CheckQuery for lack of a privilege is healthy. It
// blocks at most until ctx ends. Errors answer health.Classify.
func (p *pool) Check(ctx context.Context) error { return p.m.check(ctx) }

// Limits asks the server for its connection limits and its idle time-out. It compares them with the
// demand of this configuration on all its Instances. Start does the same and logs the warnings. It
// blocks at most until ctx ends. Where nothing is known of the driver, the error is
// errors.ErrUnsupported.
func (p *pool) Limits(ctx context.Context) (Limits, error) { return p.m.limits(ctx) }

// Holders returns the callers that hold a connection now, the oldest first. It does not block.
func (p *pool) Holders() []poolkeeper.Holder { return p.m.held.List() }

// Settings returns what is in effect, defaults filled in, without secrets.
func (p *pool) Settings() []slog.Attr { return p.m.effective() }

// ObserveWith reports the outcome of traffic to o. o gets nil for a connection that came back well,
// and the error of a connection-level failure. A nil o ends the reports. It does not block.
func (p *pool) ObserveWith(o poolkeeper.Observer) { p.m.observer.Set(o) }
