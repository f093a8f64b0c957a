package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/internal/turn"
)

// Pool is a *sql.DB whose connections are opened, watched and closed in order. It is made by
// [NewMySQL], [NewDB] and [Adopt]. All methods are safe for concurrent use.
type Pool struct {
	c        *core
	db       *sql.DB
	settings func() []slog.Attr
}

// NewDB returns a pool of the connections of any database/sql driver. It does no I/O; as sql.OpenDB
// does, it starts one goroutine that Stop or Abort ends. Every fault of cfg is reported at once,
// with Config.Name.
//
// The driver's optional interfaces work through the pool as they do without it. Code that uses the
// driver's own connection through sql.Conn.Raw needs [Native].
func NewDB(connector driver.Connector, cfg Config) (*Pool, error) {
	if connector == nil {
		err := errors.New("sqlpool: NewDB: connector is nil")
		return nil, settings.Named("sqlpool", cfg.Name, errors.Join(cfg.Validate(), err))
	}
	aim := func(cfg Config, _ disk) (driver.Connector, Config, error) {
		err := errors.Join(cfg.Validate(), refuse("NewDB is given the driver", map[string]bool{
			"URL": cfg.URL != "", "TLS": cfg.TLS != nil, "TLSFiles": cfg.TLSFiles != poolkeeper.TLSFiles{},
			"Credentials": cfg.Credentials != nil, "CredentialsFile": cfg.CredentialsFile != "", "FileInterval": cfg.FileInterval != 0,
			"ConfigureMySQL": cfg.ConfigureMySQL != nil,
		}), refusePostgres(cfg))
		return connector, cfg.withDefaults("db"), err
	}
	p, err := newPool("db", cfg, aim)
	return p, settings.Named("sqlpool", cfg.Name, err)
}

// refusePostgres refuses what only NewPostgres has.
func refusePostgres(cfg Config) error {
	return refuse("only NewPostgres has it", map[string]bool{
		"ConfigurePostgres": cfg.ConfigurePostgres != nil, "Peek": cfg.Peek != 0, "CloseGrace": cfg.CloseGrace != 0,
		"MaxOpenCeiling": cfg.MaxOpenCeiling != 0,
	})
}

// newPool makes a pool of connections that are opened as aim says.
func newPool(kind string, cfg Config, aim func(Config, disk) (driver.Connector, Config, error)) (*Pool, error) {
	on := cfg.readFiles()
	connector, cfg, err := aim(cfg, on)
	if err != nil {
		return nil, err
	}
	c := newCore(cfg, on, kind)
	s := newStore(c, connector)
	s.db = sql.OpenDB(watching{s})
	s.db.SetMaxIdleConns(math.MaxInt32) // the store has the limits
	b := &driverBackend{store: s, aimAt: aim}
	b.probe = &checkConn[*native]{dial: b.dialCheck, probe: b.ask, hangUp: b.hangUpCheck, spare: s.withIdle, turn: turn.New()}
	c.back = b
	c.evictor = eviction.New(s, cfg.policy())
	return &Pool{c: c, db: s.db, settings: func() []slog.Attr { return c.effective(b.reach()) }}, nil
}

// DB returns the handle. The handle never changes. It works before Start, and refuses work with
// [poolkeeper.ErrDraining] once draining has begun. SetMaxOpenConns and its kin belong to the pool:
// do not call them. Closing the handle oneself is allowed: the pool then ends its own work, and
// Stop still waits for what is in flight.
func (p *Pool) DB() *sql.DB { return p.db }

// Start reaches the server as Config.Start says, then keeps MinIdle connections open, evicts idle
// ones and reports leaks. It blocks until the server has answered once or the policy gives up, at
// most until ctx ends. A failed Start may be repeated.
func (p *Pool) Start(ctx context.Context) error { return p.c.start(ctx) }

// Drain refuses new work with [poolkeeper.ErrDraining] from now on and waits until callers have
// returned their connections: open transactions, rows and sticky connections are finished, as are
// callers already waiting in the queue. It blocks at most until ctx ends. Its error then says how
// many connections are held, and Holders lists them.
func (p *Pool) Drain(ctx context.Context) error { return p.c.drain(ctx) }

// Stop drains and closes the pool. It blocks until every connection is closed, and then returns
// nil. If ctx ends before, it cuts off the callers that still hold a connection, as far as the
// driver allows, and returns a [*poolkeeper.HeldError]. It may be called without Start, more than once and
// concurrently: all calls return the outcome of the first.
func (p *Pool) Stop(ctx context.Context) error { return p.c.stop(ctx) }

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (p *Pool) Abort() error { return p.c.abort() }

// Reload replaces the configuration while the pool works. It first checks all of cfg, and returns
// every fault and every change that is not possible. If URL, TLS, Credentials or a Configure
// function differ, it opens and checks a connection with the new ones. Only then does it change
// anything. New sizes and times apply at once. Connections opened with old settings are replaced as
// they become idle, so that no query fails. If a check fails afterwards, the old configuration is
// put back. It blocks until then, at most until ctx ends. An empty Name keeps the old one.
func (p *Pool) Reload(ctx context.Context, cfg Config) error { return p.c.reload(ctx, cfg) }

// Plan returns the changes that Reload with cfg would make. Its error joins every fault of cfg and
// every change that is not possible. It changes nothing and does not dial.
func (p *Pool) Plan(cfg Config) ([]poolkeeper.Change, error) { return p.c.planned(cfg) }

// Reset closes every connection opened so far: idle ones now, those in use when they are
// returned. Call it when a password has changed, or the server behind the name. It does not block.
func (p *Pool) Reset() { p.c.resetOnRequest() }

// Pause makes callers wait instead of failing, for a planned failover. From now on callers that ask
// for a connection queue, within AcquireTimeout. Pause blocks until every connection has been
// returned and closed, so that Resume connects anew. If ctx ends before, the pause is undone, and
// the error names the callers that hold a connection. Code that asks for a second connection while
// it holds one waits until ctx ends. Pausing a paused pool does nothing. Drain and Stop end a
// pause. An adopted pool cannot hold up callers, and returns errors.ErrUnsupported.
func (p *Pool) Pause(ctx context.Context) error {
	if _, ok := p.c.back.(*adopted); ok {
		return fmt.Errorf("sqlpool: pause %q: the handle was adopted: %w", p.c.poolName(), errors.ErrUnsupported)
	}
	return p.c.pauseFor(ctx)
}

// Resume ends a Pause. Waiting callers go on, first in, first out. It does not block.
func (p *Pool) Resume() { p.c.resume(nil) }

// Check probes the server on a connection of its own, which it dials at the first call. So a pool
// whose callers hold every connection counts as busy, not broken. If the server is too full for
// that connection, Check uses an idle one of the pool. If none is idle, it returns a reservation
// (health.Degraded). An answer that refuses CheckQuery for lack of a privilege is healthy. It
// blocks at most until ctx ends. Errors answer health.Classify.
func (p *Pool) Check(ctx context.Context) error { return p.c.check(ctx) }

// Limits asks the server for its connection limits and its idle time-out. It compares them with the
// demand of this configuration on all its Instances. Start does the same and logs the warnings. It
// blocks at most until ctx ends. Where nothing is known of the driver, the error is
// errors.ErrUnsupported.
func (p *Pool) Limits(ctx context.Context) (Limits, error) { return p.c.limits(ctx) }

// Stats returns one moment of the pool. It does not block.
func (p *Pool) Stats() poolkeeper.Stats { return p.c.stats() }

// Holders returns the callers that hold a connection now, the oldest first. It does not block.
func (p *Pool) Holders() []poolkeeper.Holder { return p.c.held.List() }

// Settings returns what is in effect, defaults filled in, without secrets.
func (p *Pool) Settings() []slog.Attr { return p.settings() }

// ObserveWith reports the outcome of traffic to o. o gets nil for a connection that came back well,
// and the error of a connection-level failure. A nil o ends the reports. It does not block.
func (p *Pool) ObserveWith(o poolkeeper.Observer) { p.c.observer.Set(o) }

// SetName gives the pool the name it has in logs, errors and metrics. An empty name changes
// nothing.
func (p *Pool) SetName(name string) { p.c.state.SetName(name) }
