package sqlpool

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/dialpace"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/roundtrip"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// base is what the connections of every pool report to, and ask: the configuration, the gate, who
// holds what, counts, what is known of the server. It calls no driver, and knows no backend.
//
//	Postgres, MySQL, DB, Adopted ──▶ manager ──▶ backend: dbBackend, pgxBackend, adopted
//	                                    └──────────────┴──▶ base
type base struct {
	conf     atomic.Pointer[config] // with defaults; what it points to never changes
	kind     string                 // "postgres", "mysql", "db"
	gate     *inflight.Gate         // what callers have begun: waiting for a connection, or holding one
	held     *holders.Table         // callers that hold a connection; empty for an adopted handle
	evictor  *eviction.Evictor      // nil for an adopted handle
	breaker  *breaker.Breaker       // of the server
	metrics  metrics
	recovery recovery
	link     roundtrip.Patience // with the server
	dials    dialTimes
	pace     *dialpace.Pace

	events      *event.Log
	observer    observer.Slot
	dialFailing atomic.Pointer[dialFailure] // with opening connections; nil: there is none
	lastDial    atomic.Int64                // a monotime.Time: when the last one that got through began
	paused      atomic.Bool
	unasked     atomic.Bool // it has been said that the server refuses the query of checks

	life  context.Context //nolint:containedctx // ends when Stop begins; bounds work
	end   context.CancelFunc
	state *life.State

	// onDial hears how each dial has ended, and by which login, if Credentials was asked. It does
	// not block.
	onDial func(login *rotation.Login, err error)
	// onRefusedWrite hears of writes that are refused although the pool was reset lately. pause is that
	// between two resets. It does not block.
	onRefusedWrite func(err error, pause time.Duration)

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
	c.pace = dialpace.New(func() dialpace.Limits {
		now := c.cfg()
		return dialpace.Limits{MaxDials: max(now.MaxDials, 1), MaxOpen: now.MaxOpen, Instances: now.Instances}
	})
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

// noteReleased books a connection as returned now. It does nothing but leave the gate if e is not
// held. The clock is read once per checkout and once per check-in: on many virtual machines that is
// what a checkout costs most.
func (c *base) noteReleased(e *holders.Entry, now time.Time, well bool) {
	if d, ok := c.held.ReleaseAt(e, now); ok {
		c.metrics.use.Record(d)
		if well {
			c.metrics.shortUse.Record(d)
		}
	}
	c.gate.Leave()
}

// newEvents returns the log of what happens to the pool.
func (c *base) newEvents() *event.Log {
	return event.NewLog("sqlpool", c.poolName, func() *slog.Logger { return c.cfg().Logger }, explainEvent)
}

// explainEvent names the cause of an event and what to look at first.
func explainEvent(err error) (cause, advice string) {
	f := fault.Classify(err)
	return string(f.Kind), f.Advice
}

// callback runs a function of the user's on a goroutine that is not the caller's. A panic there
// would end the process, and a Goexit lose a connection's place for ever: both become an error and
// a line in the log.
func (c *base) callback(name string, f func()) error {
	return c.events.Panicked(name, guard.Call(f))
}

// cut closes a socket that the service's DialFunc may have made.
func (c *base) cut(sock net.Conn) { _ = c.guarded("Close of a socket", sock.Close) }

// guarded runs code of the service, or of a driver, that the pool calls for a purpose of its own. A
// panic is an error, and an event with its stack: on a goroutine of the pool it would end the
// process, and on a caller's it would lose a place in the pool. It must not be called under a lock.
func (c *base) guarded(of string, f func() error) (err error) {
	caught := guard.Catch(func() { err = f() })
	if caught == nil {
		return err
	}
	return c.events.Panicked(of, caught)
}

// closeConn closes conn for the pool. It always ends, because the pool waits for its goroutine.
func (c *base) closeConn(conn driver.Conn, done chan<- error) {
	err := guard.ErrExited
	defer func() { done <- err }()
	err = c.guarded("the driver's Close", conn.Close)
}

// unbroken is guarded for what breaks a connection by its panic.
func (c *base) unbroken(of string, f func() error) (err error) {
	if caught := guard.Catch(func() { err = f() }); caught != nil {
		_ = c.events.Panicked(of, caught)
		return driver.ErrBadConn
	}
	return err
}
