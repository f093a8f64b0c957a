package sqlpool_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// inBubble runs a test on a pool whose server is in memory. The pool must stop in good order.
func inBubble(t *testing.T, cfg sqlpool.PostgresConfig, native func(*pgxpool.Config), test func(*testing.T, *sqlpool.Postgres, *sqlpooltest.PostgresServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := sqlpooltest.ServePostgresInMemory(t)
		cfg.URL = srv.URL()
		if cfg.Logger == nil {
			cfg.Logger = quiet()
		}
		cfg.Configure = func(c *pgxpool.Config) error {
			c.ConnConfig.DialFunc = srv.Dial
			if native != nil {
				native(c)
			}
			return nil
		}
		p, err := sqlpool.NewPostgres(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, p, srv)
		stop(t, p)
	})
}

func acquire(t *testing.T, p *sqlpool.Postgres) *pgxpool.Conn {
	t.Helper()
	c, err := p.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A place in pgxpool is taken for as long as the user's AfterRelease runs, and so is the permit.
func TestPermitLastsUntilAfterReleaseHasEnded(t *testing.T) {
	for _, ceiling := range []int{2, 20} {
		slow := func(c *pgxpool.Config) {
			c.AfterRelease = func(*pgx.Conn) bool { time.Sleep(500 * time.Millisecond); return true }
		}
		cfg := sqlpool.PostgresConfig{MaxOpen: 2, MaxOpenCeiling: ceiling, AcquireTimeout: 200 * time.Millisecond}
		inBubble(t, cfg, slow, func(t *testing.T, p *sqlpool.Postgres, srv *sqlpooltest.PostgresServer) {
			t.Helper()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 3 {
						began := time.Now()
						c, err := p.Pool().Acquire(t.Context())
						if took := time.Since(began); took > 200*time.Millisecond {
							t.Errorf("an acquisition took %s, AcquireTimeout is 200ms", took)
						}
						if open := p.Pool().Stat().TotalConns(); open > 2 {
							t.Errorf("%d connections are open, MaxOpen is 2", open)
						}
						if err == nil {
							time.Sleep(time.Millisecond)
							c.Release()
						}
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			if s := p.Stats(); s.InUse != 0 || s.Idle != s.Open {
				t.Errorf("at rest %d are in use, and %d of %d idle", s.InUse, s.Idle, s.Open)
			}
		})
	}
}

// A dial goes on when its caller gives up. It takes a place all the same.
func TestPermitOfACallerThatGaveUpLastsUntilItsDialHasEnded(t *testing.T) {
	slow := func(c *pgxpool.Config) {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(200 * time.Millisecond)
			return dial(ctx, network, addr)
		}
	}
	inBubble(t, sqlpool.PostgresConfig{MaxOpen: 10, MaxDials: 10, MaxOpenCeiling: 40}, slow, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
		t.Helper()
		for range 9 {
			defer acquire(t, p).Release()
		}
		served := 0
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if c, err := p.Pool().Acquire(ctx); err == nil {
				c.Release()
				served++
			}
			cancel()
			if s := p.Stats(); s.Open > 10 {
				t.Fatalf("%d connections are open, MaxOpen is 10", s.Open)
			}
		}
		if served == 0 {
			t.Error("no caller has had the connection that was opened")
		}
	})
}

// A ping that the user's ShouldPing asked for goes on when its caller gives up.
func TestPermitOfACallerThatGaveUpLastsUntilItsPingHasEnded(t *testing.T) {
	pings := func(c *pgxpool.Config) {
		c.PingTimeout = 10 * time.Second
		c.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > time.Millisecond }
	}
	cfg := sqlpool.PostgresConfig{MaxOpen: 2, MaxOpenCeiling: 20, FailFastAfter: poolkeeper.Off}
	inBubble(t, cfg, pings, func(t *testing.T, p *sqlpool.Postgres, srv *sqlpooltest.PostgresServer) {
		t.Helper()
		for range 6 {
			acquire(t, p).Release()
			time.Sleep(5 * time.Millisecond)
			srv.Hang()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if c, err := p.Pool().Acquire(ctx); err == nil {
				c.Release()
			}
			cancel()
			if open := p.Pool().Stat().TotalConns(); open > 2 {
				t.Fatalf("%d connections are open, MaxOpen is 2", open)
			}
			srv.Heal()
			time.Sleep(15 * time.Second) // the ping ends
			if s := p.Stats(); s.InUse != 0 {
				t.Fatalf("%d are in use, and nobody has any", s.InUse)
			}
		}
	})
}

// A connection is taken away from its holder, and the holder, unaware of it, hijacks it.
func TestReclaimedAndThenHijackedConnectionCostsNoPlace(t *testing.T) {
	for _, ceiling := range []int{2, 10} {
		for _, exact := range []bool{false, true} {
			cfg := sqlpool.PostgresConfig{MaxOpen: 2, MaxOpenCeiling: ceiling, ReclaimAfter: 40 * time.Millisecond, AcquireTimeout: 20 * time.Millisecond}
			inBubble(t, cfg, nil, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
				t.Helper()
				c := acquire(t, p)
				time.Sleep(200 * time.Millisecond) // it is taken away
				own := c.Conn()
				if exact {
					p.Hijack(c)
				} else {
					c.Hijack()
				}
				_ = own.Close(t.Context())
				if s := p.Stats(); s.InUse != 0 || s.Open != 0 {
					t.Errorf("in use %d, open %d", s.InUse, s.Open)
				}
				a, b := acquire(t, p), acquire(t, p)
				if _, err := p.Pool().Acquire(t.Context()); !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
					t.Errorf("a third connection at MaxOpen 2: %v", err)
				}
				a.Release()
				b.Release()
			})
		}
	}
}

func TestHijackedConnectionLeavesTheBooks(t *testing.T) {
	log, logged := logTo()
	cfg := sqlpool.PostgresConfig{MaxOpen: 1, AcquireTimeout: time.Second, LeakThreshold: time.Minute, Logger: log}
	inBubble(t, cfg, nil, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
		t.Helper()
		own := acquire(t, p).Hijack()
		if n := len(p.Holders()); n != 0 {
			t.Errorf("%d holders", n)
		}
		time.Sleep(time.Hour)
		if s := p.Stats(); s.InUse != 0 || s.Leaks != 0 || strings.Contains(logged(), "leak") {
			t.Errorf("in use %d, %d leaks; the log has\n%s", s.InUse, s.Leaks, logged())
		}
		c := acquire(t, p)
		_, err := p.Pool().Acquire(t.Context())
		if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || e.InUse != 1 || strings.Contains(err.Error(), "1h") {
			t.Errorf("the error blames the hijacked connection: %v", err)
		}
		c.Release()
		_ = own.Close(t.Context())
	})
}

// pgxpool does not tell which connection has left. As long as it may be one of several, none of
// them is blamed.
func TestCandidatesOfAHijackAreNotBlamed(t *testing.T) {
	log, logged := logTo()
	cfg := sqlpool.PostgresConfig{MaxOpen: 3, AcquireTimeout: time.Second, LeakThreshold: time.Minute, Logger: log}
	inBubble(t, cfg, nil, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
		t.Helper()
		one, two := acquire(t, p), acquire(t, p)
		own := one.Hijack()
		time.Sleep(time.Hour)
		if s := p.Stats(); s.InUse != 1 || s.Leaks != 0 || strings.Contains(logged(), "leak") {
			t.Errorf("in use %d, %d leaks; the log has\n%s", s.InUse, s.Leaks, logged())
		}
		two.Release() // so it was the other one
		if h := p.Holders(); len(h) != 0 {
			t.Errorf("holders: %v", h)
		}
		late := acquire(t, p)
		time.Sleep(time.Hour)
		if s := p.Stats(); s.Leaks != 1 {
			t.Errorf("%d leaks; the connection acquired later is one", s.Leaks)
		}
		late.Release()
		_ = own.Close(t.Context())
	})
}

func TestHijackOfThePoolIsExact(t *testing.T) {
	cfg := sqlpool.PostgresConfig{MaxOpen: 2, AcquireTimeout: time.Second, LeakThreshold: time.Minute}
	inBubble(t, cfg, nil, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
		t.Helper()
		one, two := acquire(t, p), acquire(t, p)
		own := p.Hijack(one)
		if n := len(p.Holders()); n != 1 {
			t.Errorf("%d holders, want the one that is left", n)
		}
		if s := p.Stats(); s.InUse != 1 {
			t.Errorf("in use %d", s.InUse)
		}
		time.Sleep(time.Hour)
		if s := p.Stats(); s.Leaks != 1 {
			t.Errorf("%d leaks; the connection that was not hijacked is one", s.Leaks)
		}
		acquire(t, p).Release() // its place is free
		two.Release()
		if err := own.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		_ = own.Close(t.Context())
	})
}

// A panic in a hook of the user's ends neither the process nor a place in the pool.
func TestPanicsInHooksOfPgxpoolCostNothing(t *testing.T) {
	for name, set := range map[string]func(*pgxpool.Config, func()){
		"BeforeConnect": func(c *pgxpool.Config, f func()) {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { f(); return nil }
		},
		"AfterConnect": func(c *pgxpool.Config, f func()) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { f(); return nil }
		},
		"BeforeAcquire": func(c *pgxpool.Config, f func()) {
			c.BeforeAcquire = func(context.Context, *pgx.Conn) bool { f(); return true } //nolint:staticcheck // users have it
		},
		"PrepareConn": func(c *pgxpool.Config, f func()) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { f(); return true, nil }
		},
		"ShouldPing": func(c *pgxpool.Config, f func()) {
			c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { f(); return false }
		},
		"AfterRelease": func(c *pgxpool.Config, f func()) {
			c.AfterRelease = func(*pgx.Conn) bool { f(); return true }
		},
		"BeforeClose": func(c *pgxpool.Config, f func()) { c.BeforeClose = func(*pgx.Conn) { f() } },
		"tracer":      func(c *pgxpool.Config, f func()) { c.ConnConfig.Tracer = panicTracer{f} },
	} {
		t.Run(name, func(t *testing.T) {
			var panics atomic.Bool
			log, logged := logTo()
			hook := func(c *pgxpool.Config) {
				set(c, func() {
					if panics.Load() {
						panic("mine")
					}
				})
			}
			inBubble(t, sqlpool.PostgresConfig{MaxOpen: 2, AcquireTimeout: time.Second, Logger: log}, hook, func(t *testing.T, p *sqlpool.Postgres, _ *sqlpooltest.PostgresServer) {
				t.Helper()
				panics.Store(true)
				for range 5 {
					if c, err := p.Pool().Acquire(t.Context()); err == nil {
						c.Release()
					}
					p.Reset()
					time.Sleep(time.Second)
				}
				panics.Store(false)
				a, b := acquire(t, p), acquire(t, p)
				a.Release()
				b.Release()
				time.Sleep(time.Second)
				if s := p.Stats(); s.InUse != 0 {
					t.Errorf("in use %d", s.InUse)
				}
				if !strings.Contains(logged(), "kind=panic") || !strings.Contains(logged(), "mine") {
					t.Errorf("the log does not have the panic:\n%s", logged())
				}
			})
		})
	}
}

type panicTracer struct{ f func() }

func (panicTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (panicTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (panicTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return ctx
}

func (p panicTracer) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {
	p.f()
}
func (p panicTracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { p.f() }
