package sqlpool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Adopt makes a pool of a handle that other code has opened, such as sqlmock's. It does no I/O.
// From now on the pool closes the handle.
//
// An adopted pool offers less than one that dials itself, because database/sql tells it little. It
// has health checks (on one of the handle's own connections), counts, a drain that waits and a
// bounded close. It has no refusal of new work while draining, no explained time-out, no list of
// holders, no leak report, no MinIdle, no keep-alive and no cutting of sockets. Fields of cfg that
// ask for any of these are faults, all reported at once, with Config.Name. MaxOpen, MaxIdleTime and
// MaxLifetime are set on the handle where they are not zero.
func Adopt(db *sql.DB, cfg Config) (*Pool, error) {
	if db == nil {
		return nil, settings.Named("sqlpool", cfg.Name, errors.Join(cfg.Validate(), errors.New("sqlpool: Adopt: db is nil")))
	}
	a := &adopted{db: db}
	_, given, err := a.aim(cfg, disk{})
	if err != nil {
		return nil, settings.Named("sqlpool", cfg.Name, err)
	}
	c := newCore(given, disk{}, "db")
	c.back = a
	a.core = c
	a.set(cfg)
	return &Pool{c: c, db: db, settings: func() []slog.Attr {
		now := c.cfg()
		return []slog.Attr{
			slog.String("kind", "adopted"),
			slog.Int("max_open", db.Stats().MaxOpenConnections),
			settings.Duration("max_idle_time", now.MaxIdleTime),
			settings.Duration("max_lifetime", now.MaxLifetime),
			slog.String("start", now.Start.String()),
			slog.Bool("cuts_sockets", false),
		}
	}}, nil
}

// aim refuses what a foreign handle gives no means to. In what it returns, 0 is what the handle has
// by itself.
func (a *adopted) aim(cfg Config, _ disk) (target, Config, error) {
	err := errors.Join(cfg.Validate(), refuse("an adopted *sql.DB gives no means to it; use NewDB or NewMySQL", map[string]bool{
		"URL": cfg.URL != "", "MinIdle": cfg.MinIdle != 0, "LifetimeJitter": cfg.LifetimeJitter != 0,
		"KeepAlive": cfg.KeepAlive != 0, "EvictionInterval": cfg.EvictionInterval != 0,
		"AcquireTimeout": cfg.AcquireTimeout != 0, "QueryTimeout": cfg.QueryTimeout != 0, "MaxWaiting": cfg.MaxWaiting != 0, "FailFastAfter": cfg.FailFastAfter != 0,
		"DialTimeout": cfg.DialTimeout != 0, "MaxDials": cfg.MaxDials != 0,
		"Instances": cfg.Instances != 0, "ReclaimAfter": cfg.ReclaimAfter != 0,
		"SuspectPing": cfg.SuspectPing != 0, "RecycleReadOnly": cfg.RecycleReadOnly != 0,
		"LeakThreshold": cfg.LeakThreshold != 0, "DisableLeakStacks": cfg.DisableLeakStacks, "TLS": cfg.TLS != nil,
		"Credentials": cfg.Credentials != nil, "TLSFiles": cfg.TLSFiles != poolkeeper.TLSFiles{}, "CredentialsFile": cfg.CredentialsFile != "",
		"FileInterval": cfg.FileInterval != 0, "ConfigureMySQL": cfg.ConfigureMySQL != nil,
	}), refusePostgres(cfg))
	given := cfg
	cfg = cfg.withDefaults("db")
	cfg.MaxOpen, cfg.LeakThreshold, cfg.FailFastAfter = given.MaxOpen, 0, 0
	cfg.MaxIdleTime, cfg.MaxLifetime = max(given.MaxIdleTime, 0), max(given.MaxLifetime, 0)
	return given, cfg, err
}

// set gives the handle what cfg names.
func (a *adopted) set(cfg Config) {
	if cfg.MaxOpen > 0 {
		a.db.SetMaxOpenConns(cfg.MaxOpen)
		a.db.SetMaxIdleConns(cfg.MaxOpen) // the default of 2 churns
	}
	if cfg.MaxIdleTime != 0 {
		a.db.SetConnMaxIdleTime(cfg.MaxIdleTime)
	}
	if cfg.MaxLifetime != 0 {
		a.db.SetConnMaxLifetime(cfg.MaxLifetime)
	}
}

func (a *adopted) try(context.Context, target, *Config) error { return nil }

func (a *adopted) current() target {
	now := *a.core.cfg()
	return now
}

func (a *adopted) use(_ context.Context, aim target, _ *Config, _ bool) {
	if given, ok := aim.(Config); ok {
		a.set(given)
	}
}

// adopted works on a *sql.DB from outside.
type adopted struct {
	db      *sql.DB
	core    *core
	closing closer
}

// check takes one of the handle's connections. If all are in use it waits for one; that none comes
// in time is a reservation about the pool, and not the server's fault.
func (a *adopted) check(ctx context.Context) error {
	var err error
	query := a.core.cfg().CheckQuery
	if query == "" {
		err = a.db.PingContext(ctx)
	} else {
		_, err = a.db.ExecContext(ctx, query)
	}
	if s := a.db.Stats(); err != nil && ctx.Err() != nil && s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections {
		return health.Degraded(fmt.Errorf("all %d connections are in use, and an adopted pool has none to check with: %w", s.InUse, err))
	}
	return a.core.answered(err)
}

func (a *adopted) stats(out *poolkeeper.Stats) {
	s := a.db.Stats()
	out.Max, out.Open, out.InUse, out.Idle = s.MaxOpenConnections, s.OpenConnections, s.InUse, s.Idle
	out.WaitCount, out.WaitDuration = uint64(max(s.WaitCount, 0)), s.WaitDuration
	for reason, n := range map[string]int64{
		poolkeeper.EvictedIdle: s.MaxIdleClosed + s.MaxIdleTimeClosed, poolkeeper.EvictedLifetime: s.MaxLifetimeClosed,
	} {
		if n > 0 && out.Evicted != nil {
			out.Evicted[reason] = uint64(n)
		}
	}
}

func (a *adopted) dialing() int    { return 0 }
func (a *adopted) lostPlaces() int { return 0 }

// settle has nothing to wait on but the count.
func (a *adopted) settle(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		n := a.db.Stats().InUse
		if n == 0 {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%d still in use: %w", n, context.Cause(ctx))
		}
	}
}

func (a *adopted) close(ctx context.Context) error { return a.closing.do(ctx, a.db.Close) }

func (a *adopted) refuseAll(error)                  {}
func (a *adopted) answeredSince(monotime.Time) bool { return false }

func (a *adopted) pause() bool                   { return false }
func (a *adopted) resume()                       {}
func (a *adopted) emptied(context.Context) error { return nil }

// flush has nothing to do: nothing is known to be stale.
func (a *adopted) flush() {}

func (a *adopted) cut(bool) (cut, left int) { return 0, a.db.Stats().InUse }
