package sqlpool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// foreign returns a *pgxpool.Pool that a test has opened itself, with at most two connections, and
// its server.
func foreign(t *testing.T) (*pgxpool.Pool, *sqlpooltest.PostgresServer) {
	t.Helper()
	srv := sqlpooltest.ServePostgresInMemory(t)
	native, err := pgxpool.ParseConfig(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	native.ConnConfig.DialFunc, native.MaxConns = srv.Dial, 2
	pool, err := pgxpool.NewWithConfig(t.Context(), native)
	if err != nil {
		t.Fatal(err)
	}
	return pool, srv
}

func TestAdoptedPgxPoolIsCheckedDrainedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, srv := foreign(t)
		srv.Answer("healthy?", sqlpooltest.Answer{})
		p, err := sqlpool.AdoptPgxPool(pool, sqlpool.AdoptConfig{Name: "legacy", CheckQuery: "healthy?"})
		if err != nil {
			t.Fatal(err)
		}
		if err = p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if asked := srv.Queries(); len(asked) != 1 || asked[0].SQL != "healthy?" {
			t.Errorf("Start asked %v", asked)
		}
		c, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st := p.Stats(); st.InUse != 1 || st.Open != 1 || st.Max != 2 || st.Dials != 1 {
			t.Errorf("Stats = %+v", st)
		}
		time.AfterFunc(10*time.Second, c.Release)
		begun := time.Now()
		if err := p.Drain(t.Context()); err != nil || time.Since(begun) < 10*time.Second {
			t.Errorf("Drain: %v after %v, want it to wait for the holder", err, time.Since(begun))
		}
		stop(t, p)
		synctest.Wait()
		if n := srv.Connections(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if err := p.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
			t.Errorf("Check after Stop: %v", err)
		}
	})
}

// pgxpool's own Close would wait for ever.
func TestStopOfAnAdoptedPgxPoolReturnsWhileAConnectionIsLeaked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, _ := foreign(t)
		p, err := sqlpool.AdoptPgxPool(pool, sqlpool.AdoptConfig{Name: "legacy"})
		if err != nil {
			t.Fatal(err)
		}
		leaked, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = p.Stop(ctx)
		held, ok := errors.AsType[*poolkeeper.HeldError](err)
		if !ok || held.Left != 1 || len(held.Holders) != 0 || !strings.Contains(err.Error(), "cannot cut off 1 connection") {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("Stop took %s", d)
		}
		if _, err := pool.Acquire(t.Context()); err == nil {
			t.Error("the handle works on")
		}
		leaked.Release()
	})
}

func TestSaturatedAdoptedPgxPoolIsDegradedAndNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, _ := foreign(t)
		p, err := sqlpool.AdoptPgxPool(pool, sqlpool.AdoptConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		var c *pgxpool.Conn
		for range 2 {
			if c, err = pool.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer c.Release()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = p.Check(ctx)
		if err == nil || !strings.Contains(err.Error(), "all 2 connections are in use") || health.Classify(err).Kind == health.KindUnreachable {
			t.Errorf("Check: %v", err)
		}
	})
}

func TestAdoptedPgxPoolStartsAsItsPolicySays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, srv := foreign(t)
		srv.Refuse()
		time.AfterFunc(10*time.Second, srv.Heal)
		p, err := sqlpool.AdoptPgxPool(pool, sqlpool.AdoptConfig{Start: poolkeeper.StartWaitForServer, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		begun := time.Now()
		if err := p.Start(t.Context()); err != nil || time.Since(begun) < 10*time.Second {
			t.Errorf("Start: %v after %s", err, time.Since(begun))
		}
	})
}
