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
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/roundtrip"
)

// core is the part that all pools of this package share: life, counts and holders. A backend does
// the rest: it opens, hands out and closes connections.
type core struct {
	conf    atomic.Pointer[config] // with defaults; what it points to never changes
	kind    string                 // "postgres", "mysql", "db"
	back    backend
	gate    *inflight.Gate    // what callers have begun: waiting for a connection, or holding one
	held    *holders.Table    // callers that hold a connection; empty for an adopted handle
	evictor *eviction.Evictor // nil for an adopted handle
	met     metrics
	rec     recovery
	link    roundtrip.Patience // with the server
	dials   dialTimes

	breaker  *breaker.Breaker // of the server
	events   *event.Log
	trouble  atomic.Pointer[dialTrouble] // with opening connections; nil: there is none
	lastDial atomic.Int64                // a monotime.Time: when the last one that got through began

	observer  observer.Slot
	paused    atomic.Bool
	unreached atomic.Bool // it has been said that reclaiming is out of reach
	unasked   atomic.Bool // it has been said that the server refuses the query of checks

	life    context.Context //nolint:containedctx // ends when Stop begins; bounds work
	end     context.CancelFunc
	work    inflight.Group // goroutines that renew secrets
	silence atomic.Int64   // nanoseconds after which the server closes a session; 0: never, or not known
	looking atomic.Bool
	looked  atomic.Int64                    // a monotime.Time: the last look at files
	logins  atomic.Pointer[rotation.Watch]  // what Credentials has answered, since it was configured
	disk    atomic.Pointer[onfile.Contents] // what the files hold that are in effect

	state   *life.State // its turn is that of a Reload, a Pause or a look at files, and guards the following
	asked   *config     // the configuration in effect, as it was given; a pointer, as fmt prints one level of what a Pool points to
	renewal string      // what was wrong with the files, said last

	mu       sync.Mutex       // guards the following
	watches  []*holders.Watch // of LeakThreshold and ReclaimAfter, where they are on
	pausedAt time.Time        // when callers began to wait for Resume; zero: they do not
}

// backend is how a core works on the pool of one driver. Its methods are safe for concurrent use.
type backend interface {
	// check asks the server for a sign of life on a connection that no caller uses.
	check(ctx context.Context) error
	// stats fills in the gauges, and what only the backend counts.
	stats(s *poolkeeper.Stats)
	// dialing is how many connections are being opened now.
	dialing() int
	// lostPlaces is how many places of MaxOpen are taken by connections that were reclaimed and not
	// released.
	lostPlaces() int
	// settle waits until no caller holds a connection or waits for one. The gate is closed before.
	settle(ctx context.Context) error
	// close closes the handle, the idle connections and the check's own, and waits until they are
	// closed or ctx ends. It may be called more than once.
	close(ctx context.Context) error
	// aim returns how connections are to be opened under cfg and what its files hold, and cfg with
	// its defaults and what URL adds. It reports every fault of cfg and does no I/O.
	aim(cfg config, on disk) (target, config, error)
	// try opens a connection by aim, checks it and closes it.
	try(ctx context.Context, aim target, cfg *config) error
	// current returns the aim in use, and use sets another, with the sizes of cfg. elsewhere says
	// that the aim has changed.
	current() target
	use(ctx context.Context, aim target, cfg *config, elsewhere bool)
	// pause makes new callers queue, and reports false if they do already; resume lets them go on.
	// emptied waits until nothing is in use, and then until everything is closed.
	pause() bool
	resume()
	emptied(ctx context.Context) error
	// reclaim takes away connections that have been held for longer than limit. It returns their
	// holders, and how many connections are out of reach.
	reclaim(now time.Time, limit time.Duration) (taken []poolkeeper.Holder, out int)
	// limits asks the server what it grants.
	limits(ctx context.Context) (Limits, error)
	// refuseAll ends the waits of all callers with err; those that have a connection keep it.
	refuseAll(err error)
	// answeredSince reports whether the server has given a sign of life on an open connection since
	// then.
	answeredSince(then monotime.Time) bool
	// flush closes the idle connections that are stale, in the background.
	flush()
	// cut closes the sockets of the connections that callers hold, or of all, at once, and says how
	// many it could not reach.
	cut(idleToo bool) (cut, left int)
}

func newCore(cfg config, on disk, kind string) *core {
	c := &core{
		kind: kind, state: life.NewState("sqlpool", cfg.Name),
		gate: inflight.New(),
		held: holders.NewTable(!cfg.DisableLeakStacks),
	}
	c.life, c.end = context.WithCancel(context.Background()) //nolint:forbidigo // the pool's own life, ended by Stop
	c.disk.Store(&on.Contents)
	c.asked = &on.asked
	c.conf.Store(&cfg)
	c.events = c.newEvents()
	c.observer.OnPanic = func(err error) { _ = c.events.Panicked("the Observer", err) }
	c.logins.Store(new(rotation.Watch))
	c.watches = c.watchesFor(&cfg)
	c.breaker = c.newBreaker()
	return c
}

// cfg returns the configuration in effect.
func (c *core) cfg() *config { return c.conf.Load() }

func (c *core) poolName() string { return c.state.Name() }

// refusal is the error for work that begins after the gate was closed.
func (c *core) refusal() error {
	return fmt.Errorf("sqlpool: acquire from %q: %w", c.poolName(), max(c.state.At(), life.Draining).Refusal())
}

// released books a connection as returned now. It does nothing but leave the gate if e is not held.
// The clock is read once per checkout and once per check-in: on many virtual machines that is what
// a checkout costs most.
func (c *core) released(e *holders.Entry, now time.Time, well bool) {
	if d, ok := c.held.ReleaseAt(e, now); ok {
		c.met.use.Record(d)
		if well {
			c.met.shortUse.Record(d)
		}
	}
	c.gate.Leave()
}

// acquireFailed explains why a caller that waited since then did not get a connection.
func (c *core) acquireFailed(ctx context.Context, since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	err := gaveUp(ctx, c.cfg().AcquireTimeout)
	if c.paused.Load() {
		err = fmt.Errorf("%w: %w", poolkeeper.ErrPaused, err)
	}
	if isTimeout(err) {
		c.met.acquireTimeouts.Add(1)
	}
	return c.acquireFailure(now, now.Sub(since), err)
}

// tooLate explains why a caller gives up before its deadline.
func (c *core) tooLate(since time.Time) *poolkeeper.AcquireError {
	now := time.Now()
	c.met.acquireTimeouts.Add(1)
	return c.acquireFailure(now, now.Sub(since), &acquire.TimeoutError{Text: fmt.Sprintf(
		"its deadline comes too soon for a connection to be of use: nearly all are needed for %s or longer", c.met.shortUse.Load(),
	)})
}

// acquireFailure describes the pool to a caller that gets no connection because of err.
func (c *core) acquireFailure(now time.Time, waited time.Duration, err error) *poolkeeper.AcquireError {
	var s poolkeeper.Stats
	c.back.stats(&s)
	out := &poolkeeper.AcquireError{
		Pool: c.poolName(), Max: s.Max, InUse: s.InUse, Waiting: s.Waiting, Dialing: c.back.dialing(),
		Reclaimed: c.back.lostPlaces(), Oldest: c.held.Oldest(), Waited: waited, Time: now, Err: err,
	}
	if s.InUse < s.Max { // else no connection would be opened for this caller anyway
		out.DialErr = c.cannotDial(now)
	}
	return out
}
