//go:build wallstep

package clock_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pool is a pool under test.
type pool struct {
	use   func(context.Context) error // acquires, works and releases
	hold  func(context.Context) (release func(), err error)
	shock func() // breaks every connection there is
	reset func()
	check func(context.Context) error
	stats func() poolkeeper.Stats
}

const maxOpen = 8

type component interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

func started(t *testing.T, p component, err error) {
	t.Helper()
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func redisPool(t *testing.T) pool {
	t.Helper()
	srv := miniredis.RunT(t)
	p, err := redispool.New(redispool.Config{
		URL: "redis://" + srv.Addr(), MaxOpen: maxOpen, MinIdle: 2, MaxIdleTime: time.Minute, MaxLifetime: 30 * time.Minute,
		LeakThreshold: time.Minute, Logger: quiet(),
	})
	started(t, p, err)
	return pool{
		use: func(ctx context.Context) error { return p.Client().Set(ctx, "a", 1, 0).Err() },
		hold: func(ctx context.Context) (func(), error) {
			sub := p.Client().Subscribe(ctx, "news")
			_, err := sub.Receive(ctx)
			return func() { _ = sub.Close() }, err
		},
		shock: func() { srv.Close(); _ = srv.Restart() },
		reset: p.Reset, check: p.Check, stats: p.Stats,
	}
}

func pgxPool(t *testing.T) pool {
	t.Helper()
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("select 1", sqlpooltest.Answer{})
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: srv.URL(), MaxOpen: maxOpen, MinIdle: 2, MaxIdleTime: time.Minute, MaxLifetime: 30 * time.Minute,
		LeakThreshold: time.Minute, Logger: quiet(),
	})
	started(t, p, err)
	return pool{
		use: func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err },
		hold: func(ctx context.Context) (func(), error) {
			c, err := p.Pool().Acquire(ctx)
			if err != nil {
				return nil, err
			}
			return c.Release, nil
		},
		shock: srv.Drop, reset: p.Reset, check: p.Check, stats: p.Stats,
	}
}

func dbPool(t *testing.T) pool {
	t.Helper()
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("select 1", sqlpooltest.Answer{})
	native, err := pgx.ParseConfig(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	p, err := sqlpool.NewDB(stdlib.GetConnector(*native), sqlpool.DBConfig{
		MaxOpen: maxOpen, MinIdle: 2, MaxIdleTime: time.Minute, MaxLifetime: 30 * time.Minute,
		LeakThreshold: time.Minute, Logger: quiet(),
	})
	started(t, p, err)
	return pool{
		use: func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "select 1"); return err },
		hold: func(ctx context.Context) (func(), error) {
			c, err := p.DB().Conn(ctx)
			if err != nil {
				return nil, err
			}
			return func() { _ = c.Close() }, nil
		},
		shock: srv.Drop, reset: p.Reset, check: p.Check, stats: p.Stats,
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// After each step of the clock callers are served, checks pass, and nothing is closed but what a
// fault or a reset broke.
func TestPoolsWorkWhileTheWallClockIsSet(t *testing.T) {
	for name, open := range map[string]func(*testing.T) pool{"redispool": redisPool, "pgxpool": pgxPool, "database/sql": dbPool} {
		t.Run(name, func(t *testing.T) {
			defer time.SetWallStep(0)
			p := open(t)
			serve(t, p, 0)
			release, err := p.hold(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			waves := 1 // of connections that had to be opened
			for i, step := range []time.Duration{time.Hour, 0, -time.Hour, time.Hour, -time.Hour, 0} {
				time.SetWallStep(step)
				lost := 0
				switch i % 3 {
				case 1:
					p.shock()
					waves, lost = waves+1, maxOpen // each caller may find one out
				case 2:
					p.reset()
					waves++
				}
				serve(t, p, lost)
				time.SetWallStep(-step)
				serve(t, p, 0)
				if err := p.check(t.Context()); err != nil {
					t.Errorf("clock at %+v: the check: %v", step, err)
				}
			}
			release()
			s := p.stats()
			if most := uint64(waves * (maxOpen + 2)); s.Dials > most {
				t.Errorf("%d dials, want %d at most", s.Dials, most)
			}
			if n := s.Evicted[poolkeeper.EvictedIdle] + s.Evicted[poolkeeper.EvictedLifetime]; n > 0 || s.Leaks > 0 {
				t.Errorf("within seconds %d connections have become too old and %d have leaked", n, s.Leaks)
			}
		})
	}
}

// serve makes 50 calls, of which some may fail.
func serve(t *testing.T, p pool, mayFail int) {
	t.Helper()
	failed := 0
	var last error
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := p.use(ctx)
		cancel()
		if err != nil {
			failed, last = failed+1, err
		}
		if failed > mayFail {
			t.Fatalf("%d calls failed, the last with %v", failed, last)
		}
	}
}
