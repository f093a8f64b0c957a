package sqlpool

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

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
