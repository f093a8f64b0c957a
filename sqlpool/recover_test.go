package sqlpool_test

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// idle opens n connections of the pool and returns them all.
func idle(t *testing.T, p *sqlpool.DB, n int) {
	t.Helper()
	var held []*sql.Conn
	for range n {
		held = append(held, hold(t, p))
	}
	for _, c := range held {
		_ = c.Close()
	}
}

// A network that swallows everything without a word: the first query finds out, one more ping
// confirms, and then every other idle connection is closed, so that each caller loses at most one
// query and none of them waits long.
func TestSilentNetworkCostsOneQueryAndNotOnePerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.features &^= featResetter // nothing but traffic finds out
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 20, KeepAlive: poolkeeper.Off, MaxDials: 20})
		defer stop(t, p)
		idle(t, p, 20)
		s.blackhole()
		query := func() (time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			begun := time.Now()
			_, err := p.DB().ExecContext(ctx, "x")
			return time.Since(begun), err
		}
		if _, err := query(); err == nil {
			t.Fatal("the network is not black")
		}
		took, err := query()
		if err != nil || took > 300*time.Millisecond {
			t.Errorf("the second query: %v after %v, want one short ping and a new connection", err, took)
		}
		synctest.Wait()
		if st := p.Stats(); st.Open != 1 || st.Evicted["dead"] != 20 {
			t.Errorf("open %d, evicted %v; want all 20 old ones gone", st.Open, st.Evicted)
		}
		if took, err := query(); err != nil || took != 0 {
			t.Errorf("the third query: %v after %v", err, took)
		}
	})
}

// A caller whose AcquireTimeout leaves no time for a round trip learns nothing about the server.
func TestCallerInAHurryCondemnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.features &^= featResetter
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 5, KeepAlive: time.Minute, AcquireTimeout: 800 * time.Millisecond})
		defer stop(t, p)
		idle(t, p, 5)
		s.ping.set(func(ctx context.Context) error { // a link of 300 ms
			select {
			case <-time.After(300 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		advance(3 * time.Minute) // the pings of KeepAlive tell the pool how slow the link is
		s.bad = 1
		_, _ = p.DB().ExecContext(t.Context(), "bad") // one connection breaks, the others are suspect
		_, _ = p.DB().ExecContext(t.Context(), "x")
		synctest.Wait()
		if got := p.Stats().Evicted["dead"]; got > 3 {
			t.Errorf("%d were closed as dead, want the one that broke and the two that the caller had no time for", got)
		}
	})
}

// The ablation: without suspicion every old connection costs a query.
func TestWithoutSuspicionEachConnectionCostsAQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.features &^= featResetter
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 5, SuspectPing: poolkeeper.Off, KeepAlive: poolkeeper.Off, MaxDials: 5})
		defer stop(t, p)
		idle(t, p, 5)
		s.blackhole()
		failed := 0
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			if _, err := p.DB().ExecContext(ctx, "x"); err != nil {
				failed++
			}
			cancel()
		}
		if failed != 5 {
			t.Errorf("%d queries failed, want one for each of 5 connections", failed)
		}
	})
}

func TestSuspicionThatProvesWrongCostsOnePingPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var pings atomic.Int64
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 3, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		idle(t, p, 3)
		s.ping.set(func(context.Context) error { pings.Add(1); return nil })
		advance(time.Second)
		s.bad = 1
		_, _ = p.DB().ExecContext(t.Context(), "bad") // one connection breaks, the others are well
		for range 10 {
			idle(t, p, 2)
		}
		if got := pings.Load(); got != 2 {
			t.Errorf("%d pings, want one of each connection that was silent before", got)
		}
		if got := p.Stats().Evicted["dead"]; got != 1 {
			t.Errorf("%d were closed as dead, want the one that broke", got)
		}
	})
}

// A caller that gives up says nothing about the server, although drivers close the connection then.
func TestCallerWhoGoesAwayRaisesNoSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.dieWhenGivenUp = true
		var pings atomic.Int64
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 3, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		idle(t, p, 3)
		s.ping.set(func(context.Context) error { pings.Add(1); return nil })
		advance(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := p.DB().ExecContext(ctx, "sleep 1h"); err == nil {
			t.Fatal("it was not given up")
		}
		idle(t, p, 2)
		if got := pings.Load(); got != 0 || p.Stats().Evicted["dead"] != 1 {
			t.Errorf("%d pings, evicted %v; want none and the one that was given up", got, p.Stats().Evicted)
		}
	})
}

// A failover behind the same name: the old connections lead to a server that has become read-only,
// new ones to the new primary.
func TestReadOnlyErrorThrowsTheGenerationAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 8, KeepAlive: poolkeeper.Off, MaxDials: 8, Logger: slog.New(slog.DiscardHandler)})
		defer stop(t, p)
		idle(t, p, 8)
		busy := hold(t, p)
		s.demote(s.Dialed())
		if _, err := p.DB().ExecContext(t.Context(), "write"); err == nil {
			t.Fatal("the server is not read-only")
		}
		if _, err := p.DB().ExecContext(t.Context(), "write"); err != nil {
			t.Errorf("the next write: %v", err)
		}
		synctest.Wait()
		if _, err := busy.ExecContext(t.Context(), "read"); err != nil {
			t.Errorf("a connection in use must not be touched: %v", err)
		}
		_ = busy.Close()
		if st := p.Stats(); st.Open != 1 || st.Evicted["failover"] != 8 {
			t.Errorf("open %d, evicted %v", st.Open, st.Evicted)
		}
	})
}

// A failover whose name moves 5 s late. Until then new connections lead to the old server too.
func TestPoolFindsThePromotedServerSoonAfterTheNameMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 4, KeepAlive: poolkeeper.Off, Logger: slog.New(slog.DiscardHandler)})
		defer stop(t, p)
		const every = 10 * time.Millisecond
		write := func(d time.Duration) (failed int) {
			for range d / every {
				if _, err := p.DB().ExecContext(t.Context(), "write"); err != nil {
					failed++
				}
				time.Sleep(every)
			}
			return failed
		}
		s.demote(1 << 30)
		dialled := s.Dialed()
		if failed := write(5 * time.Second); failed != 500 {
			t.Fatalf("%d of 500 writes failed on a read-only server", failed)
		}
		if got := s.Dialed() - dialled; got > 60 {
			t.Errorf("%d dials in 5 s of a read-only server", got)
		}
		s.demote(s.Dialed()) // the name moves
		if failed := write(5 * time.Second); failed == 0 || failed > 20 {
			t.Errorf("%d writes failed after the name had moved, one every %s; want 1 to 20", failed, every)
		}
		evicted := p.Stats().Evicted["failover"]
		if failed := write(time.Minute); failed > 0 || p.Stats().Evicted["failover"] != evicted {
			t.Errorf("%d writes failed later, and %d connections were thrown away before, %d now", failed, evicted, p.Stats().Evicted["failover"])
		}
	})
}

// Where a name leads to several servers, seekers may reach one that takes writes while callers do not.
func TestSeekersResetOnceBetweenTwoResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, KeepAlive: poolkeeper.Off, Logger: slog.New(slog.DiscardHandler)})
		defer stop(t, p)
		s.demote(1 << 30)
		s.writable.Store(true) // as seekers see it
		for range 1000 {
			_, _ = p.DB().ExecContext(t.Context(), "write")
			time.Sleep(10 * time.Millisecond)
		}
		if got := p.Stats().Generation; got < 4 || got > 8 { // 4 in 10 s without seekers
			t.Errorf("%d generations were thrown away in 10 s, want 4 to 8", got)
		}
	})
}

func TestServerThatStaysReadOnlyIsNotStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, KeepAlive: poolkeeper.Off, Logger: slog.New(slog.DiscardHandler)})
		defer stop(t, p)
		s.demote(1 << 30) // for good
		begun, dialled := time.Now(), s.Dialed()
		for time.Since(begun) < 5*time.Minute {
			_, _ = p.DB().ExecContext(t.Context(), "write")
			time.Sleep(10 * time.Millisecond)
		}
		if got := s.Dialed() - dialled; got > 160 { // those of seekers are ever rarer
			t.Errorf("%d dials in 5 minutes of a read-only server", got)
		}
		if got := p.Stats().Evicted["failover"]; got < 10 {
			t.Errorf("%d connections were thrown away; it must go on trying", got)
		}
	})
}

func TestReadOnlyErrorsThatAreTheCallersOwnAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		idle(t, p, 2)
		s.writeError.Store(&mysql.MySQLError{Number: 1792, Message: "Cannot execute statement in a READ ONLY transaction"})
		s.demote(s.Dialed())
		tx, err := p.DB().BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tx.ExecContext(t.Context(), "write")
		_ = tx.Rollback()
		s.writeError.Store(&mysql.MySQLError{Number: 1290, Message: "… running with the --secure-file-priv option …"})
		_, _ = p.DB().ExecContext(t.Context(), "write")
		synctest.Wait()
		if st := p.Stats(); st.Open != 2 || st.Evicted["failover"] != 0 {
			t.Errorf("open %d, evicted %v", st.Open, st.Evicted)
		}
	})
}

func TestResetOnReadOnlyCanBeDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, DisableResetOnReadOnly: true})
		defer stop(t, p)
		idle(t, p, 2)
		s.demote(s.Dialed())
		for range 5 {
			if _, err := p.DB().ExecContext(t.Context(), "write"); err == nil {
				t.Fatal("the server is not read-only")
			}
		}
	})
}

// A server that ends all its sessions costs only the queries that are under way: no caller gets a
// dead connection. A connection in memory cannot be peeked at, so this test covers the suspicion.
// The peek saves the first query even where none was under way: see
// TestPostgresTerminatedWhileIdleCostsNoQuery.
func TestPostgresTerminatedUnderLoadCostsWhatIsUnderWayAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) { c.MaxOpen, c.Logger = 50, quiet() })
		srv.Answer("work", sqlpooltest.Answer{})
		giveBack(t, 18, func() (func(), error) {
			c, err := p.Pool().Acquire(t.Context())
			return c.Release, err
		})
		srv.Slow(3 * time.Millisecond)
		var failed, ended atomic.Int64
		end := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Microsecond)
				for {
					select {
					case <-end:
						return
					default:
					}
					if _, err := p.Pool().Exec(t.Context(), "work"); err != nil {
						failed.Add(1)
						if sqltest.State(err) == "57P01" {
							ended.Add(1)
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		for range 20 {
			time.Sleep(51_150 * time.Microsecond)
			synctest.Wait()
			failed.Store(0)
			ended.Store(0)
			underWay := p.Stats().InUse
			srv.Terminate()
			time.Sleep(200 * time.Millisecond)
			if got := failed.Load(); underWay == 0 || int(got) != underWay || ended.Load() != got {
				t.Errorf("%d queries failed, %d of them because their session was ended; want the %d that were under way", got, ended.Load(), underWay)
			}
		}
		close(end)
		wg.Wait()
	})
}
