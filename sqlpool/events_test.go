package sqlpool_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

var (
	_ lifecycle.EventSource = (*sqlpool.Postgres)(nil)
	_ lifecycle.EventSource = (*sqlpool.MySQL)(nil)
	_ lifecycle.EventSource = (*sqlpool.DB)(nil)
	_ lifecycle.EventSource = (*sqlpool.Adopted)(nil)
)

// happening is something that a pool tells, and how it comes about.
type happening struct {
	kind  poolkeeper.EventKind
	level slog.Level
	cfg   sqlpool.DBConfig
	cause func(t *testing.T, srv *sqlpooltest.PostgresServer, p bubblePool)
	err   bool   // the event says why
	held  string // the kind of the holder that the event names; empty: none
}

// holdFor takes a connection, and keeps it for a while.
func holdFor(d time.Duration) func(*testing.T, *sqlpooltest.PostgresServer, bubblePool) {
	return func(t *testing.T, _ *sqlpooltest.PostgresServer, p bubblePool) {
		t.Helper()
		release, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
		release()
	}
}

// reloadTo reloads with another MaxOpen.
func (p bubblePool) reloadTo(ctx context.Context, maxOpen int) error {
	return p.reload(ctx, sqlpool.DBConfig{MaxOpen: maxOpen, KeepAlive: poolkeeper.Off, Logger: quiet()})
}

func outageOf(d time.Duration) func(*testing.T, *sqlpooltest.PostgresServer, bubblePool) {
	return func(t *testing.T, srv *sqlpooltest.PostgresServer, p bubblePool) {
		t.Helper()
		srv.Refuse()
		if _, err := p.acquire(t.Context()); err == nil {
			t.Fatal("a connection of a server that refuses")
		}
		advance(d)
		srv.Heal()
		advance(time.Minute)
	}
}

var happenings = []happening{
	{kind: poolkeeper.EventLeak, level: slog.LevelWarn, cfg: sqlpool.DBConfig{LeakThreshold: time.Minute}, cause: holdFor(2 * time.Minute), held: poolkeeper.KindConn},
	{
		kind: poolkeeper.EventReclaimed, level: slog.LevelError, cfg: sqlpool.DBConfig{ReclaimAfter: time.Minute},
		cause: holdFor(2 * time.Minute), held: poolkeeper.KindConn,
	},
	{kind: poolkeeper.EventReset, cause: func(_ *testing.T, _ *sqlpooltest.PostgresServer, p bubblePool) { p.managed.Reset() }},
	{kind: poolkeeper.EventPaused, cause: pauseAndResume},
	{kind: poolkeeper.EventResumed, cause: pauseAndResume},
	{kind: poolkeeper.EventDown, level: slog.LevelWarn, cause: outageOf(10 * time.Second), err: true},
	{kind: poolkeeper.EventUp, cause: outageOf(10 * time.Second)},
	{kind: poolkeeper.EventReloaded, cause: func(t *testing.T, _ *sqlpooltest.PostgresServer, p bubblePool) {
		t.Helper()
		if err := p.reloadTo(t.Context(), 3); err != nil {
			t.Error(err)
		}
	}},
	{kind: poolkeeper.EventReloadRefused, level: slog.LevelWarn, err: true, cause: func(t *testing.T, _ *sqlpooltest.PostgresServer, p bubblePool) {
		t.Helper()
		if err := p.reloadTo(t.Context(), -3); err == nil {
			t.Error("a negative MaxOpen is accepted")
		}
	}},
	{kind: poolkeeper.EventPanic, level: slog.LevelError, err: true, cause: func(t *testing.T, srv *sqlpooltest.PostgresServer, p bubblePool) {
		t.Helper()
		p.managed.ObserveWith(observerFunc(func(error) { panic("observer") }))
		holdFor(time.Second)(t, srv, p)
	}},
}

func pauseAndResume(t *testing.T, _ *sqlpooltest.PostgresServer, p bubblePool) {
	t.Helper()
	if err := p.managed.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Second)
	p.managed.Resume()
}

func TestSubscribersAreToldWhatHappensToBothPools(t *testing.T) {
	for _, h := range happenings {
		t.Run(string(h.kind), func(t *testing.T) {
			onBothPools(t, h.cfg, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
				t.Helper()
				log := subscribed(p.managed)
				cancelled := new(pooltest.Events)
				p.managed.Subscribe(cancelled.Add)()
				began := time.Now()
				h.cause(t, srv, p)
				synctest.Wait()
				pooltest.Told(t, log, pooltest.Event{Kind: h.kind, Level: h.level, Err: h.err, Held: h.held}, began)
				if len(cancelled.All()) > 0 {
					t.Errorf("told after cancel: %v", cancelled.All())
				}
			})
		})
	}
}

// What only a pool that dials by URL can tell.
func TestSubscribersAreToldOfLimitsAndRenewals(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	var token atomic.Pointer[string]
	token.Store(new(string))
	for name, c := range map[string]struct {
		configure func(*sqlpool.PostgresConfig)
		cause     func(t *testing.T, srv *sqlpooltest.PostgresServer, p *sqlpool.Postgres)
		want      []poolkeeper.EventKind
	}{
		"limits": {
			configure: func(c *sqlpool.PostgresConfig) { c.MaxOpen, c.Instances = 40, 9 },
			want:      []poolkeeper.EventKind{poolkeeper.EventLimits},
		},
		"a password that Credentials changes": {
			configure: func(c *sqlpool.PostgresConfig) {
				c.Credentials = func(context.Context) (string, string, error) { return "app", *token.Load(), nil }
			},
			cause: func(t *testing.T, _ *sqlpooltest.PostgresServer, p *sqlpool.Postgres) {
				t.Helper()
				for _, password := range []string{"first", "second"} {
					token.Store(&password)
					p.Reset() // a new connection logs in
					if _, err := p.Pool().Exec(t.Context(), "set x to 1"); err != nil {
						t.Error(err)
					}
				}
				advance(time.Minute)
			},
			want: []poolkeeper.EventKind{poolkeeper.EventReset, poolkeeper.EventReset, poolkeeper.EventRenewed},
		},
		"a file with another password": {
			configure: func(c *sqlpool.PostgresConfig) { c.CredentialsFile, c.FileInterval = secret, time.Second },
			cause: func(t *testing.T, _ *sqlpooltest.PostgresServer, _ *sqlpool.Postgres) {
				t.Helper()
				write(t, secret, []byte("app:second"))
				advance(time.Minute)
			},
			want: []poolkeeper.EventKind{poolkeeper.EventRenewed},
		},
		"a password that the server rejects": {
			configure: func(c *sqlpool.PostgresConfig) { c.CredentialsFile, c.FileInterval = secret, time.Second },
			cause: func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *sqlpool.Postgres) {
				t.Helper()
				srv.RefuseLogins("28P01", "password authentication failed")
				write(t, secret, []byte("app:second"))
				advance(time.Minute)
				srv.Heal()
				write(t, secret, []byte("app:first"))
			},
			want: []poolkeeper.EventKind{poolkeeper.EventRenewalRefused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, secret, []byte("app:first"))
			synctest.Test(t, func(t *testing.T) {
				p, srv := sqlpooltest.NewUnstartedPostgresInMemory(t, func(cfg *sqlpool.PostgresConfig) {
					cfg.KeepAlive, cfg.Logger = poolkeeper.Off, quiet()
					c.configure(cfg)
				})
				log := subscribed(p)
				if err := p.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c.cause != nil {
					c.cause(t, srv, p)
				}
				var got []poolkeeper.EventKind
				for _, e := range log.All() {
					if e.Level > slog.LevelDebug {
						got = append(got, e.Kind)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("told %v, want %v", log.All(), c.want)
				}
			})
		})
	}
}

type observerFunc func(error)

func (f observerFunc) Observe(err error) { f(err) }
