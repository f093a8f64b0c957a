package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/checkconn"
)

// resolver returns how connections are to be opened, and the configuration with its defaults.
type resolver func(config, secretFiles) (driver.Connector, config, error)

// dbBackend holds the driver's connections of one *sql.DB: it opens them, knows which are in use,
// idle or on their way, and hands them to callers first in, first out. database/sql keeps the idle
// ones; its own limit is off.
//
//	caller ─ database/sql ─┬─ free list ─ ResetSession ─▶ checkOut
//	                       └─ Connect ─▶ acquire ─┬─ prefilled (opened ahead of need)
//	                                              └─ queue ◀─┬─ dial
//	                                                         └─ checkIn of another caller: handed over
type dbBackend struct {
	base      *base
	probe     *checkconn.Conn[*native]
	resolveBy resolver
	closing   life.Closer
	db        *sql.DB         // set before the backend is used
	life      context.Context //nolint:containedctx // ends when the backend closes; bounds dials
	end       context.CancelFunc
	pending   inflight.Group // connections, and goroutines that open or close one
	flushing  atomic.Bool

	// mu guards the following, the state of every conn and the times of every native. No I/O, no
	// callback and no call of database/sql under it. open = in use + idle + swept + prefilled +
	// being handed over.
	mu        sync.Mutex
	connector driver.Connector // the driver's, or what stands for it

	max       int
	open      int
	dialing   int        // being opened; open + dialing ≤ max
	slow      []*dialing // of those, the ones that take long, the oldest first
	inUse     int
	idle      int // checked in to database/sql
	swept     int // taken out by the evictor
	coming    int // of swept, those about to be given back: no reason to dial
	peak      int // most connections in use or waited for at once since the last Peak
	all       map[*native]struct{}
	prefilled []*native // idle, the last opened last
	waiting   queue.Queue[*native]
	later     *time.Timer // of dials that wait for credit; nil: none has waited
	paused    bool        // no caller gets a connection
	closed    bool

	lookedAt time.Time     // when a look at an idle connection last ended in vain
	looked   time.Duration // how long it took, with those just before it
}

func newDBBackend(c *base, connector driver.Connector, resolve resolver) *dbBackend {
	s := &dbBackend{
		base: c, resolveBy: resolve, connector: connector,
		max: c.cfg().MaxOpen, all: make(map[*native]struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background()) //nolint:forbidigo // the backend's own life, ended by shut
	s.probe = checkconn.New(checkconn.Driver[*native]{
		Dial: s.dialCheck, Probe: s.ask, HangUp: s.hangUpCheck, Full: serverIsFull, Spare: s.withIdle,
	})
	return s
}

// load implements reporter. The place of a reclaimed connection is free at once.
func (b *dbBackend) load() load {
	b.mu.Lock()
	defer b.mu.Unlock()
	return load{max: b.max, inUse: b.inUse, waiting: b.waiting.Len(), dialing: b.dialing}
}

// stats fills in the gauges.
func (b *dbBackend) stats(out *poolkeeper.Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Max, out.Open, out.InUse, out.Waiting = b.max, b.open, b.inUse, b.waiting.Len()
	out.Idle, out.Dialing = b.idle+b.swept+len(b.prefilled), b.dialing
}

func (b *dbBackend) check(ctx context.Context) error {
	return b.probe.Check(context.WithValue(ctx, evenIfDown{}, true))
}

func (b *dbBackend) resolve(cfg config, on secretFiles) (target, config, error) {
	return b.resolveBy(cfg, on)
}

func (b *dbBackend) current() target { return b.connectorNow() }

func (b *dbBackend) try(ctx context.Context, to target, cfg *config) error {
	connector, ok := to.(driver.Connector)
	if !ok {
		return fmt.Errorf("sqlpool: not a driver.Connector: %T", to)
	}
	n, err := b.openNative(ctx, connector)
	if err != nil {
		return err
	}
	defer b.hangUpCheck(ctx, n)
	return b.asked(ctx, n, cfg.CheckQuery)
}

func (b *dbBackend) takesWrites(ctx context.Context, query string) (bool, error) {
	n, err := b.openNative(ctx, b.connectorNow())
	if err != nil {
		return false, err
	}
	defer b.hangUpCheck(ctx, n)
	var row []string
	err = b.base.guarded("the driver, in a look for the promoted server,", func() (err error) {
		row, err = oneRow(ctx, n, query, 1)
		return err
	})
	if err != nil {
		return false, err
	}
	return writable(row[0])
}

func (b *dbBackend) use(ctx context.Context, to target, cfg *config, elsewhere bool) {
	connector, _ := to.(driver.Connector)
	b.setConnector(connector, cfg.MaxOpen)
	if elsewhere {
		b.probe.Redial(ctx)
	}
}

func (b *dbBackend) pause() bool { return b.setPaused(true) }

func (b *dbBackend) resume() { b.setPaused(false) }

func (b *dbBackend) opening() bool { return b.load().dialing > 0 }

func (b *dbBackend) settle(ctx context.Context) error { return b.base.gate.Wait(ctx) }

func (b *dbBackend) dialCheck(ctx context.Context) (*native, error) {
	return checkDial(ctx, b.base, func(ctx context.Context) (*native, error) {
		ctx, cancel := context.WithTimeout(ctx, b.base.cfg().DialTimeout)
		defer cancel()
		return b.openNative(ctx, b.connectorNow())
	})
}

func (b *dbBackend) refuseAll(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting.Fail(b.waiting.Joined(), err)
}

func (b *dbBackend) answeredSince(then monotime.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.all {
		if n.answeredSince(then) {
			return true
		}
	}
	return false
}

// ask is one check of a connection that is the check's own.
func (b *dbBackend) ask(ctx context.Context, n *native) error {
	asked := time.Now()
	err := b.asked(ctx, n, b.base.cfg().CheckQuery)
	if err == nil && n.Pinger != nil {
		b.base.link.Saw(time.Since(asked))
	}
	return err
}

// asked is one check of n, whose driver may panic.
func (b *dbBackend) asked(ctx context.Context, n *native, query string) error {
	c := b.base
	return c.answered(c.guarded("the driver, in a check,", func() error { return askBy(ctx, n, query) }))
}

func askBy(ctx context.Context, n *native, query string) error {
	if query != "" {
		return n.Run(ctx, query)
	}
	if n.Pinger != nil {
		return n.Pinger.Ping(ctx)
	}
	return nil
}

func (b *dbBackend) hangUpCheck(ctx context.Context, n *native) {
	_ = b.hangUp(n, ctx.Done(), hangUpLimit) // how it went is of no use
}

// close closes the *sql.DB, which closes the idle connections and shuts the backend, and waits for
// what that set off.
func (b *dbBackend) close(ctx context.Context) error {
	err := b.closing.Do(ctx, b.db.Close)
	return errors.Join(err, stillUnderWay(b.pending.Wait(ctx)), b.probe.Close(ctx))
}

func (b *dbBackend) cut(idleToo bool) (cut, left int) {
	b.mu.Lock()
	all := make([]*native, 0, len(b.all))
	for n := range b.all {
		all = append(all, n)
	}
	b.mu.Unlock()
	for _, n := range all {
		if !idleToo && !b.base.held.Holds(&n.entry) {
			continue
		}
		if n.sock == nil {
			left++
			continue
		}
		b.base.cut(n.sock) // unblocks a caller that reads or writes
		cut++
	}
	return cut, left
}

// handleClosed runs when the *sql.DB has been closed, by Stop or by a caller.
func (b *dbBackend) handleClosed() error {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpLimit) //nolint:forbidigo // DB.Close has no context
	defer cancel()
	return errors.Join(b.base.handleClosed(ctx), b.probe.Close(ctx))
}

// setPaused makes callers queue, or lets them go on. It reports false if they do already.
func (b *dbBackend) setPaused(paused bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused == paused {
		return false
	}
	b.paused = paused
	prefilled := b.prefilled
	b.prefilled = nil
	for _, n := range prefilled { // empty, unless a dial has ended meanwhile
		b.deliverLocked(n)
	}
	b.dialLocked()
	return true
}

// shut closes the backend: callers in the queue are refused, what is prefilled is closed, and what
// comes back is closed then.
func (b *dbBackend) shut() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	if b.later != nil {
		b.later.Stop()
	}
	prefilled := b.prefilled
	b.prefilled = nil
	var refused []*waiter
	for w := b.waiting.Pop(); w != nil; w = b.waiting.Pop() {
		refused = append(refused, w)
	}
	b.mu.Unlock()
	b.end()
	var errs []error
	for _, w := range refused {
		w.Refuse(fmt.Errorf("sqlpool: acquire from %q: %w", b.base.poolName(), poolkeeper.ErrClosed))
	}
	for _, n := range prefilled {
		errs = append(errs, b.discard(n, poolkeeper.EvictedClosed, hangUpLimit))
	}
	return errors.Join(errs...)
}
