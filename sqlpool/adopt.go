package sqlpool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/peer"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Adopted is a handle that other code has opened, with the life of a pool: a start that reaches the
// server, health checks, counts, a drain that waits, a bounded close. It is made by [Adopt] and
// [AdoptPgxPool]. All methods are safe for concurrent use.
//
// It offers less than a pool that dials itself, because the handle tells it little: no refusal of
// new work while draining, no explained time-out, no list of holders, no leak report, no MinIdle,
// no cutting of sockets and no reload. Sizes and times are the handle's own.
type Adopted struct{ component }

// Adopt makes a component of a *sql.DB that other code has opened, such as sqlmock's. It does no
// I/O. From now on Stop closes the handle. Every fault of cfg is reported at once, with cfg.Name.
func Adopt(db *sql.DB, cfg AdoptConfig) (*Adopted, error) {
	if db == nil {
		return adopt(nil, "db", cfg, errors.New("sqlpool: Adopt: db is nil"))
	}
	return adopt(adoptedDB{db}, "db", cfg, nil)
}

// AdoptPgxPool makes a component of a *pgxpool.Pool that other code has opened. It does no I/O.
// From now on Stop closes the handle. Every fault of cfg is reported at once, with cfg.Name.
//
// pgxpool's Close waits for ever for a connection that is not released. Stop does not: it returns
// by its deadline and says how many connections are still held. A goroutine of Close then stays
// until they are released. Connections that were hijacked are not the pool's any more.
func AdoptPgxPool(pool *pgxpool.Pool, cfg AdoptConfig) (*Adopted, error) {
	if pool == nil {
		return adopt(nil, "postgres", cfg, errors.New("sqlpool: AdoptPgxPool: pool is nil"))
	}
	return adopt(adoptedPgxPool{pool}, "postgres", cfg, nil)
}

func adopt(h handle, name string, given AdoptConfig, fault error) (*Adopted, error) {
	cfg := given.config()
	if err := errors.Join(cfg.validate(), fault); err != nil {
		return nil, settings.Named("sqlpool", given.Name, err)
	}
	cfg = cfg.withDefaults(name)
	cfg.LeakThreshold, cfg.FailFastAfter = 0, 0
	cfg.MinIdle = h.minIdle()
	a := &adopted{handle: h}
	a.base = newBase(cfg, "adopted")
	return &Adopted{component{newManager(a.base, a, secretFiles{})}}, nil
}

// Start reaches the server as the configuration's Start says. It blocks until the server has
// answered once or the policy gives up, at most until ctx ends. A failed Start may be repeated.
func (a *Adopted) Start(ctx context.Context) error { return a.m.start(ctx) }

// Drain waits until no connection is in use. It cannot refuse new work: callers that go on taking
// connections prolong it. It blocks at most until ctx ends; its error then says how many are in
// use.
func (a *Adopted) Drain(ctx context.Context) error { return a.m.drain(ctx) }

// Stop drains and closes the handle. It blocks until the handle is closed, and then returns nil. If
// ctx ends before, it begins to close the handle, leaves the connections in use to their holders
// and returns a [*HeldError] that counts them. It may be called without Start, more than once and
// concurrently: all calls return the outcome of the first.
func (a *Adopted) Stop(ctx context.Context) error { return a.m.stop(ctx) }

// Check pings the server, or runs CheckQuery, on one of the handle's connections. If all of them
// are in use until ctx ends, it returns a reservation (health.Degraded): that is not the server's
// fault. An answer that refuses CheckQuery for lack of a privilege is healthy. Errors answer
// health.Classify.
func (a *Adopted) Check(ctx context.Context) error { return a.m.check(ctx) }

// Settings returns what is in effect.
func (a *Adopted) Settings() []slog.Attr {
	cfg := a.m.cfg()
	return []slog.Attr{
		slog.String("kind", a.m.kind),
		slog.Int("max_open", a.m.stats().Max),
		slog.String("start", cfg.Start.String()),
		slog.Bool("cuts_sockets", false),
	}
}

// handle is what an adopted pool needs of a foreign one.
type handle interface {
	// probe pings, or runs query, on one of the handle's connections.
	probe(ctx context.Context, query string) error
	// usage is the gauges, without the counters.
	usage() (limit, inUse int)
	// minIdle is how many idle connections the handle keeps ready. It never changes.
	minIdle() int
	// stats fills in what the handle counts.
	stats(out *poolkeeper.Stats)
	// close closes the handle. It may block for as long as connections are held.
	close() error
}

// adopted is the backend of an [Adopted]: it works on a handle from outside.
type adopted struct {
	handle

	base    *base
	closing life.Closer
}

// check takes one of the handle's connections. If all are in use it waits for one; that none comes
// in time is a reservation about the pool, and not the server's fault.
func (a *adopted) check(ctx context.Context) error {
	err := a.probe(ctx, a.base.cfg().CheckQuery)
	if limit, n := a.usage(); err != nil && ctx.Err() != nil && limit > 0 && n >= limit {
		return health.Degraded(fmt.Errorf(
			"all %d connections are in use, and an adopted pool has none to check with: %w", n, err,
		))
	}
	return a.base.answered(err)
}

// settle has nothing to wait on but the count.
func (a *adopted) settle(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_, n := a.usage()
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

func (a *adopted) close(ctx context.Context) error { return a.closing.Do(ctx, a.handle.close) }

func (a *adopted) cut(bool) (cut, left int) {
	_, n := a.usage()
	return 0, n
}

// The rest of a backend is not reached: an Adopted has no method for it, nor settings that ask for
// it.

func (a *adopted) resolve(c config, _ secretFiles) (target, config, error) {
	return nil, c, errors.ErrUnsupported
}

func (a *adopted) try(context.Context, target, *config) error { return errors.ErrUnsupported }

func (a *adopted) takesWrites(context.Context, string) (bool, error) {
	return false, errors.ErrUnsupported
}

func (a *adopted) current() target { return nil }

func (a *adopted) use(context.Context, target, *config, bool) {}

func (a *adopted) pause() bool { return false }

func (a *adopted) resume() {}

func (a *adopted) opening() bool { return false }

func (a *adopted) reach(target) (dial peer.Dial, secure bool) { return nil, false }

func (a *adopted) limits(context.Context) (Limits, error) { return Limits{}, errors.ErrUnsupported }

func (a *adopted) refuseAll(error) {}

func (a *adopted) answeredSince(monotime.Time) bool { return false }

func (a *adopted) flush() {}

func (a *adopted) reclaim(time.Time, time.Duration) (_ []poolkeeper.Holder, out int) { return nil, 0 }

// adoptedDB is a *sql.DB.
type adoptedDB struct{ db *sql.DB }

func (h adoptedDB) probe(ctx context.Context, query string) error {
	if query == "" {
		return h.db.PingContext(ctx)
	}
	_, err := h.db.ExecContext(ctx, query)
	return err
}

func (h adoptedDB) usage() (limit, inUse int) {
	s := h.db.Stats()
	return s.MaxOpenConnections, s.InUse
}

func (adoptedDB) minIdle() int { return 0 }

func (h adoptedDB) stats(out *poolkeeper.Stats) {
	s := h.db.Stats()
	out.Max, out.Open, out.InUse, out.Idle = s.MaxOpenConnections, s.OpenConnections, s.InUse, s.Idle
	out.WaitCount, out.WaitDuration = uint64(max(s.WaitCount, 0)), s.WaitDuration
	evicted(out, poolkeeper.EvictedIdle, s.MaxIdleClosed+s.MaxIdleTimeClosed)
	evicted(out, poolkeeper.EvictedLifetime, s.MaxLifetimeClosed)
}

func (h adoptedDB) close() error { return h.db.Close() }

// adoptedPgxPool is a *pgxpool.Pool.
type adoptedPgxPool struct{ pool *pgxpool.Pool }

func (h adoptedPgxPool) probe(ctx context.Context, query string) error {
	if query == "" {
		return h.pool.Ping(ctx)
	}
	_, err := h.pool.Exec(ctx, query)
	return err
}

func (h adoptedPgxPool) usage() (limit, inUse int) {
	s := h.pool.Stat()
	return int(s.MaxConns()), int(s.AcquiredConns())
}

func (h adoptedPgxPool) minIdle() int { return int(h.pool.Config().MinIdleConns) }

func (h adoptedPgxPool) stats(out *poolkeeper.Stats) {
	s := h.pool.Stat()
	out.Max, out.Open = int(s.MaxConns()), int(s.TotalConns())
	out.InUse, out.Idle = int(s.AcquiredConns()), int(s.IdleConns())
	out.WaitCount, out.WaitDuration = uint64(max(s.EmptyAcquireCount(), 0)), s.EmptyAcquireWaitTime()
	out.Acquired = uint64(max(s.AcquireCount(), 0))
	out.Dialing, out.Dials = int(s.ConstructingConns()), uint64(max(s.NewConnsCount(), 0))
	evicted(out, poolkeeper.EvictedIdle, s.MaxIdleDestroyCount())
	evicted(out, poolkeeper.EvictedLifetime, s.MaxLifetimeDestroyCount())
}

// close blocks until every connection has been released.
func (h adoptedPgxPool) close() error {
	h.pool.Close()
	return nil
}

func evicted(out *poolkeeper.Stats, reason string, n int64) {
	if n > 0 && out.Evicted != nil {
		out.Evicted[reason] = uint64(n)
	}
}
