package sqlpool_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// A connection that must not be used again is closed when it comes back, and not at the next sweep
// or acquisition.
func TestPostgresStaleConnectionIsClosedAtItsReturn(t *testing.T) {
	const lifetime = time.Minute
	age := func(*sqlpool.Postgres) { time.Sleep(lifetime) }
	reset := func(p *sqlpool.Postgres) { p.Reset(); synctest.Wait() }
	for _, c := range []struct {
		name   string
		happen func(*sqlpool.Postgres)
		reason string
	}{
		{"past its lifetime", age, poolkeeper.EvictedLifetime},
		{"reset in use", reset, poolkeeper.EvictedReload},
	} {
		for name, hold := range map[string]func(*testing.T, *sqlpool.Postgres) (release func()){
			"Acquire": func(t *testing.T, p *sqlpool.Postgres) func() {
				t.Helper()
				held, err := p.Pool().Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return held.Release
			},
			"DB": func(t *testing.T, p *sqlpool.Postgres) func() {
				t.Helper()
				held, err := p.DB().Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return func() { _ = held.Close() }
			},
			"AcquireAllIdle": func(t *testing.T, p *sqlpool.Postgres) func() {
				t.Helper()
				if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
					t.Fatal(err)
				}
				held := p.Pool().AcquireAllIdle(t.Context())
				if len(held) != 1 {
					t.Fatalf("%d idle", len(held))
				}
				return held[0].Release
			},
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
						c.MaxLifetime, c.EvictionInterval, c.LifetimeJitter = lifetime, time.Hour, 0
					})
					srv.Answer("x", sqlpooltest.Answer{})
					release := hold(t, p)
					c.happen(p)
					if n := p.Stats().Open; n != 1 {
						t.Fatalf("%d open in use", n)
					}
					release()
					synctest.Wait()
					if st := p.Stats(); st.Open != 0 || st.Evicted[c.reason] != 1 {
						t.Errorf("after its return: %d open, evicted %v", st.Open, st.Evicted)
					}
					if _, err := p.Pool().Exec(t.Context(), "x"); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// countedConn counts itself while it is open.
type countedConn struct {
	net.Conn

	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// counting makes pgx's dials count their connections in open.
func counting(open *atomic.Int64) func(*pgxpool.Config) error {
	return func(c *pgxpool.Config) error {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			sock, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return &countedConn{Conn: sock, open: open}, nil
		}
		return nil
	}
}

// The server does not answer a check: nothing of the connection is left when Stop has returned.
func TestPostgresStopLeavesNothingOfACheckThatTimedOut(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	var open atomic.Int64
	p, _ := pgFor(t, srv, sqlpool.PostgresConfig{Configure: counting(&open), CloseGrace: 100 * time.Millisecond})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Freeze(t)
	defer srv.Thaw(t)
	if err := p.Check(within(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Check: %v", err)
	}
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d sockets are open after Stop", n)
	}
}
