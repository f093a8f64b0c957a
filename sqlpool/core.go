package sqlpool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/acquire"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/roundtrip"
)

// base is what the connections of every pool report to, and ask: the configuration, the gate, who
// holds what, counts, what is known of the server. It calls no driver, and knows no backend.
//
//	Postgres, MySQL, DB, Adopted ──▶ manager ──▶ backend: dbBackend, pgxBackend, adopted
//	                                    └──────────────┴──▶ base
type base struct {
	conf    atomic.Pointer[config] // with defaults; what it points to never changes
	kind    string                 // "postgres", "mysql", "db"
	gate    *inflight.Gate         // what callers have begun: waiting for a connection, or holding one
	held    *holders.Table         // callers that hold a connection; empty for an adopted handle
	evictor *eviction.Evictor      // nil for an adopted handle
	breaker *breaker.Breaker       // of the server
	metrics     metrics
	recovery     recovery
	link    roundtrip.Patience // with the server
	dials   dialTimes

	events   *event.Log
	observer observer.Slot
	dialFailing  atomic.Pointer[dialFailure] // with opening connections; nil: there is none
	lastDial atomic.Int64                // a monotime.Time: when the last one that got through began
	paused   atomic.Bool
	unasked  atomic.Bool // it has been said that the server refuses the query of checks

	life  context.Context //nolint:containedctx // ends when Stop begins; bounds work
	end   context.CancelFunc
	state *life.State

	// onDial hears how each dial has ended, and by which login, if Credentials was asked. It does
	// not block.
	onDial func(login *rotation.Login, err error)

	mu      sync.Mutex       // guards the following
	watches []*holders.Watch // of LeakThreshold, ReclaimAfter and files, where they are on
}

func newBase(cfg config, kind string) *base {
	c := &base{
		kind: kind, state: life.NewState("sqlpool", cfg.Name),
		gate: inflight.New(),
		held: holders.NewTable(!cfg.DisableLeakStacks),
	}
	c.life, c.end = context.WithCancel(context.Background()) //nolint:forbidigo // the pool's own life, ended by Stop
	c.conf.Store(&cfg)
	c.events = c.newEvents()
	c.observer.OnPanic = func(err error) { _ = c.events.Panicked("the Observer", err) }
	return c
}

// cfg returns the configuration in effect.
func (c *base) cfg() *config { return c.conf.Load() }

func (c *base) poolName() string { return c.state.Name() }

// refusal is the error for work that begins after the gate was closed.
func (c *base) refusal() error {
	return fmt.Errorf("sqlpool: acquire from %q: %w", c.poolName(), max(c.state.At(), life.Draining).Refusal())
}

// noteReleased books a connection as returned now. It does nothing but leave the gate if e is not held.
// The clock is read once per checkout and once per check-in: on many virtual machines that is what
// a checkout costs most.
func (c *base) noteReleased(e *holders.Entry, now time.Time, well bool) {
	if d, ok := c.held.ReleaseAt(e, now); ok {
		c.metrics.use.Record(d)
		if well {
			c.metrics.shortUse.Record(d)
		}
	}
	c.gate.Leave()
}

// reporter is the backend that reports something, as far as its base must know more of it.
type reporter interface {
	// load is what the backend is busy with.
	load() load
	// Open is how many connections are open.
	Open() int
	// flush closes the idle connections that are stale, in the background.
	flush()
}

// load is what a backend is busy with.
type load struct {
	max, inUse, waiting, dialing int
	reclaimed                    int // connections that take a place until their holders release them
}

// acquireFailed explains why a caller that waited since then did not get a connection.
func (c *base) acquireFailed(ctx context.Context, of reporter, since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	err := gaveUp(ctx, c.cfg().AcquireTimeout)
	if c.paused.Load() {
		err = fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err)
	}
	if isTimeout(err) {
		c.metrics.acquireTimeouts.Add(1)
	}
	return c.acquireFailure(of, now, now.Sub(since), err)
}

// tooLate explains why a caller gives up before its deadline.
func (c *base) tooLate(of reporter, since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	c.metrics.acquireTimeouts.Add(1)
	return c.acquireFailure(of, now, now.Sub(since), &acquire.TimeoutError{Text: fmt.Sprintf(
		"its deadline comes too soon for a connection to be of use: nearly all are needed for %s or longer", c.metrics.shortUse.Load(),
	)})
}

// acquireFailure describes the pool to a caller that gets no connection because of err.
func (c *base) acquireFailure(of reporter, now time.Time, waited time.Duration, err error) *poolkeeper.AcquireError {
	l := of.load()
	out := &poolkeeper.AcquireError{
		Pool: c.poolName(), Max: l.max, InUse: l.inUse, Waiting: l.waiting, Dialing: l.dialing,
		Reclaimed: l.reclaimed, Oldest: c.held.Oldest(), Waited: waited, Time: now, Err: err,
	}
	if l.inUse < l.max { // else no connection would be opened for this caller anyway
		out.DialErr = c.cannotDial(now)
	}
	return out
}
