package sqlpool_test

import (
	"context"
	"database/sql"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// burst makes n callers use a connection at once.
func burst(t *testing.T, p interface{ DB() *sql.DB }, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := p.DB().ExecContext(t.Context(), "sleep 1s"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// INV-7, and the scenario of a burst: the surplus goes within MaxIdleTime and one interval, down to
// what light traffic needs and MinIdle, without a failed query and without a dial.
func TestSurplusIsClosedAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{
			MaxOpen: 50, MinIdle: 3, MaxDials: 50, MaxIdleTime: time.Minute, EvictionInterval: time.Second,
			MaxLifetime: poolkeeper.Off, KeepAlive: poolkeeper.Off, AcquireTimeout: poolkeeper.Off,
		})
		defer stop(t, p)
		burst(t, p, 40)
		dials := p.Stats().Dials
		for range 70 { // light traffic: two at a time
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if _, err := p.DB().ExecContext(t.Context(), "sleep 500ms"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			time.Sleep(500 * time.Millisecond)
		}
		st := p.Stats()
		if st.Open != 5 {
			t.Errorf("open %d, want 2 that the traffic needs and MinIdle, 5", st.Open)
		}
		if st.Dials != dials {
			t.Errorf("%d dials while the surplus was closed", st.Dials-dials)
		}
		if st.Evicted["idle"] != dials-5 {
			t.Errorf("evicted %v of %d", st.Evicted, dials)
		}
		advance(2 * time.Minute)
		if got := p.Stats().Open; got != 3 {
			t.Errorf("in silence %d are open, want MinIdle, 3", got)
		}
	})
}

func TestColdestConnectionsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 10, MinIdle: 1, MaxDials: 10, MaxIdleTime: 20 * time.Second, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		burst(t, p, 5)
		var hot int
		for range 60 { // database/sql gives out the one used last
			if err := p.DB().QueryRowContext(t.Context(), "select").Scan(&hot); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := p.Stats().Open; got != 2 {
			t.Fatalf("open %d, want 2", got)
		}
		var still int
		if err := p.DB().QueryRowContext(t.Context(), "select").Scan(&still); err != nil {
			t.Fatal(err)
		}
		if still != hot {
			t.Errorf("the hottest connection, %d, is gone; %d answers", hot, still)
		}
	})
}

func TestMinIdleIsFilledOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var dials testkit.Crowd
		s.dial.set(func(ctx context.Context) error {
			defer dials.Enter()()
			return sleepFor(ctx, "100ms")
		})
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 10, MinIdle: 5})
		defer stop(t, p)
		advance(time.Second)
		if st := p.Stats(); st.Idle != 5 || dials.Most() != 1 {
			t.Errorf("idle %d with %d dials at once; want MinIdle, 5, one by one", st.Idle, dials.Most())
		}
		a, b := hold(t, p), hold(t, p)
		advance(time.Minute)
		if st := p.Stats(); st.Idle != 5 || st.InUse != 2 {
			t.Errorf("with 2 in use: idle %d, in use %d; want 5 idle beside them", st.Idle, st.InUse)
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestIdleConnectionIsReadyWithoutADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MinIdle: 1})
		defer stop(t, p)
		synctest.Wait()
		s.dial.set(func(ctx context.Context) error { return sleepFor(ctx, "1s") })
		start := time.Now()
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil || time.Since(start) != 0 {
			t.Errorf("took %v (%v), although a connection was kept ready", time.Since(start), err)
		}
		if got := p.Stats().WaitCount; got != 0 {
			t.Errorf("WaitCount = %d for a caller who did not wait", got)
		}
	})
}

// ends is how connections that were opened together were seen to go, by the server.
type ends struct {
	count       int
	first, last time.Duration // from when they were opened
	most        int           // within one second
}

// watchEnds looks once a second, for 11 minutes, how many connections a server has.
func watchEnds(onServer func() int) ends {
	var out ends
	begun := onServer()
	for born := time.Now(); time.Since(born) < 11*time.Minute; {
		advance(time.Second)
		now := begun - onServer()
		if now > out.count {
			out.last = time.Since(born)
			if out.first == 0 {
				out.first = out.last
			}
			out.most = max(out.most, now-out.count)
		}
		out.count = now
	}
	return out
}

// stampede is a configuration under which n connections are opened together, and end by their
// lifetimes alone.
func stampede(n int) sqlpool.DBConfig {
	return sqlpool.DBConfig{
		MaxOpen: n, MaxDials: n, MaxIdleTime: poolkeeper.Off, KeepAlive: poolkeeper.Off, EvictionInterval: 100 * time.Millisecond,
		MaxLifetime: 10 * time.Minute, LifetimeJitter: 0.1, AcquireTimeout: poolkeeper.Off, LeakThreshold: poolkeeper.Off,
	}
}

func TestLifetimesEndSpreadOut(t *testing.T) {
	const n = 200
	t.Run("database/sql", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeServer()
			p := fakePool(t, s, stampede(n))
			defer stop(t, p)
			burst(t, p, n)
			endSpreadOut(t, watchEnds(s.Open), n)
		})
	})
	t.Run("pgxpool", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { endSpreadOut(t, pgStampede(t, n, sqlpool.DefaultLifetimeJitter), n) })
	})
	t.Run("pgxpool, no jitter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if got := pgStampede(t, n, poolkeeper.NoJitter); got.most != n {
				t.Errorf("%+v; want all at once, or this test sees nothing", got)
			}
		})
	})
}

func endSpreadOut(t *testing.T, got ends, n int) {
	t.Helper()
	if got.count != n || got.first < 9*time.Minute || got.last > 10*time.Minute+2*time.Second {
		t.Errorf("%+v; want all %d between 9 and 10 minutes", got, n)
	}
	if got.most > n/10 {
		t.Errorf("%d connections ended within one second, want at most a tenth of %d", got.most, n)
	}
}

// pgStampede opens n connections of a pgxpool together and watches them end.
func pgStampede(t *testing.T, n int, jitter float64) ends {
	t.Helper()
	p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) {
		url := c.URL
		*c = like[sqlpool.PostgresConfig](stampede(n))
		c.URL, c.LifetimeJitter, c.Logger = url, jitter, quiet()
	})
	held := make([]*pgxpool.Conn, n)
	for i := range held {
		var err error
		if held[i], err = p.Pool().Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range held {
		c.Release()
	}
	got := watchEnds(srv.Connections)
	if st := p.Stats(); srv.Connections() != 1 || st.Open != 0 || st.Evicted["lifetime"] != uint64(n) {
		t.Errorf("the server has %d connections, want the check's; the pool says %d, and evicted %v", srv.Connections(), st.Open, st.Evicted)
	}
	return got
}

func TestLifetimeShorterThanASecondIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxLifetime: 300 * time.Millisecond, LifetimeJitter: poolkeeper.NoJitter, EvictionInterval: time.Hour})
		defer stop(t, p)
		var a, b, c int
		scan := func(into *int) {
			if err := p.DB().QueryRowContext(t.Context(), "select").Scan(into); err != nil {
				t.Fatal(err)
			}
		}
		scan(&a)
		advance(299 * time.Millisecond)
		scan(&b)
		advance(time.Millisecond)
		scan(&c) // no sweep has passed: the checkout sees it
		if a != b || b == c {
			t.Errorf("connections %d, %d, %d; want a new one after 300 ms", a, b, c)
		}
	})
}

func TestConnectionPastItsLifetimeIsClosedWhenReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxLifetime: time.Minute, LifetimeJitter: poolkeeper.NoJitter})
		defer stop(t, p)
		c := hold(t, p)
		advance(2 * time.Minute)
		if _, err := c.ExecContext(t.Context(), "x"); err != nil {
			t.Errorf("a connection in use must not be touched: %v", err)
		}
		_ = c.Close()
		if st := p.Stats(); st.Open != 0 || st.Evicted["lifetime"] != 1 {
			t.Errorf("open %d, evicted %v", st.Open, st.Evicted)
		}
	})
}

func TestSilentConnectionsArePingedAndDeadOnesReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var pings atomic.Int64
		p := fakePool(t, s, sqlpool.DBConfig{
			MaxOpen: 10, MinIdle: 6, KeepAlive: 10 * time.Second, MaxLifetime: poolkeeper.Off, EvictionInterval: time.Second,
		})
		defer stop(t, p)
		s.ping.set(func(context.Context) error { pings.Add(1); return nil })
		synctest.Wait()
		advance(35 * time.Second)
		if got := pings.Load(); got < 3*6 || got > 4*6 {
			t.Errorf("%d pings of 6 connections in 35 s, want each every 10 s", got)
		}
		s.breakAll()
		advance(15 * time.Second)
		if st := p.Stats(); st.Evicted["dead"] != 6 || st.Idle != 6 {
			t.Errorf("evicted %v, idle %d; want 6 dead and 6 new", st.Evicted, st.Idle)
		}
	})
}

// A connection that was opened ahead of need may have died before its first use.
func TestConnectionThatDiedBeforeItsFirstUseIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 3, MinIdle: 3, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		synctest.Wait()
		s.breakAll()
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		synctest.Wait() // they are closed in the background
		if got := p.Stats().Evicted["dead"]; got != 3 {
			t.Errorf("%d dead were found, want 3", got)
		}
	})
}

// A ping that hangs neither holds up a caller nor stays for ever.
func TestHungPingStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 6, MinIdle: 6, KeepAlive: 10 * time.Second, EvictionInterval: time.Second})
		defer stop(t, p)
		synctest.Wait()
		s.ping.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		advance(11 * time.Second) // the sweep hangs in its pings now
		start := time.Now()
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil || time.Since(start) != 0 {
			t.Errorf("a caller beside hung pings took %v: %v", time.Since(start), err)
		}
		s.ping.set(nil)
		advance(30 * time.Second)
		if st := p.Stats(); st.Evicted["dead"] == 0 || st.Idle != 6 {
			t.Errorf("evicted %v, idle %d", st.Evicted, st.Idle)
		}
	})
}

// Sweeps under load: no failed operation, no extra dial.
func TestSweepsUnderLoadDisturbNobody(t *testing.T) {
	s := newFakeServer()
	p := fakePool(t, s, sqlpool.DBConfig{
		MaxOpen: 8, MinIdle: 2, MaxDials: 8, MaxIdleTime: 10 * time.Minute, KeepAlive: 5 * time.Millisecond, EvictionInterval: 10 * time.Millisecond,
		AcquireTimeout: 30 * time.Second,
	})
	defer stop(t, p)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for range 1500 {
				if _, err := p.DB().ExecContext(t.Context(), "sleep 100us"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if st := p.Stats(); st.Dials > 8 || st.Open != int(st.Dials) {
		t.Errorf("%d dials, open %d; want at most MaxOpen, 8, and all still open", st.Dials, st.Open)
	}
}

func TestIdlePoolCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MinIdle: 1, MaxLifetime: poolkeeper.Off, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		advance(time.Hour)
		s.takeTrace()
		advance(math.MaxInt32 * time.Millisecond)
		if calls := s.takeTrace(); len(calls) != 0 {
			t.Errorf("in 24 days of silence the driver was called: %v", calls)
		}
	})
}

// Fill looks for room, and a caller may come before it acts. It must not wait in a full pool, with
// new callers held up.
func TestFillDoesNotWaitInAFullPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sqlpooltest.ServePostgresInMemory(t)
		p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
			URL: srv.URL(), MaxOpen: 2, KeepAlive: poolkeeper.Off, Logger: quiet(),
			Configure: func(c *pgxpool.Config) error { c.ConnConfig.DialFunc = srv.Dial; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		var held []*pgxpool.Conn
		for range 2 {
			c, err := p.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
		held[1].Release()
		defer held[0].Release()
		begun := time.Now()
		if err := sqlpool.OpenIdle(t.Context(), p); err == nil {
			t.Error("one more was opened")
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it waited for %s, and callers with it", took)
		}
	})
}
