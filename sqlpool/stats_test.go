package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestStatsTellHoldsDialsPausesAndGenerations(t *testing.T) {
	cfg := sqlpool.DBConfig{MaxOpen: 3, MinIdle: 1, AcquireTimeout: time.Minute}
	onBothPools(t, cfg, func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		stats := p.managed.Stats
		advance(time.Second)
		if s := stats(); s.MinIdle != 1 || s.OldestHold != 0 || s.Dialing != 0 || s.Paused || s.Generation != 0 || s.SweepLate != 0 ||
			!s.DownSince.IsZero() || s.LastDialError != nil {
			t.Errorf("at rest: %+v", s)
		}
		hasAllReasons(t, stats())

		first, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		advance(2 * time.Second)
		second, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		if got := stats().OldestHold; got < 3*time.Second || got > 4*time.Second {
			t.Errorf("the oldest hold lasts %v, want 3s", got)
		}
		first()
		if got := stats().OldestHold; got < time.Second || got > 2*time.Second {
			t.Errorf("after the first was returned: %v, want 1s", got)
		}

		n.delay.Store(int64(300 * time.Millisecond))
		var more []func()
		for range 2 {
			release, err := p.acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			more = append(more, release)
		}
		second()
		for _, release := range more {
			release()
		}
		n.delay.Store(0)

		p.managed.Reset()
		advance(time.Second)
		if got := stats().Generation; got != 1 {
			t.Errorf("after a Reset: generation %d", got)
		}
		if err := p.managed.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := stats(); !s.Paused || s.Generation != 2 || s.Open != 0 {
			t.Errorf("while paused: %+v", s)
		}
		p.managed.Resume()
		if stats().Paused {
			t.Error("paused after Resume")
		}
	})
}

func TestStatsTellADialUnderWay(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 3, AcquireTimeout: time.Minute}, func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		n.delay.Store(int64(100 * time.Millisecond))
		done := make(chan func())
		go func() {
			release, err := p.acquire(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- release
		}()
		synctest.Wait()
		if s := p.managed.Stats(); s.Dialing != 1 || s.Open != 0 {
			t.Errorf("%d being opened, %d open; want 1 and 0", s.Dialing, s.Open)
		}
		release := <-done
		if s := p.managed.Stats(); s.Dialing != 0 || s.Open != 1 {
			t.Errorf("%d being opened, %d open; want 0 and 1", s.Dialing, s.Open)
		}
		release()
	})
}

func TestStatsKeepWhyTheLastDialFailedAndSinceWhenTheServerIsDown(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{AcquireTimeout: time.Minute}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Refuse()
		began := time.Now()
		_, err := p.acquire(t.Context())
		if err == nil {
			t.Fatal("an acquisition from a server that refuses succeeds")
		}
		advance(4 * time.Second)
		s := p.managed.Stats()
		if s.DownSince.IsZero() || s.DownSince.Before(began.Add(-time.Second)) || s.DownSince.After(time.Now()) {
			t.Errorf("down since %v, the first dial failed at %v", s.DownSince, began)
		}
		if s.LastDialError == nil || sqlpool.Classify(s.LastDialError).Advice == "" || !s.LastDialErrorTime.After(began.Add(2*time.Second)) {
			t.Errorf("the last dial failed at %v (the outage began at %v): %v", s.LastDialErrorTime, began, s.LastDialError)
		}
		srv.Heal()
		advance(time.Minute)
		release, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release()
		after := p.managed.Stats()
		if !after.DownSince.IsZero() || after.LastDialError == nil || after.LastDialErrorTime.Before(s.LastDialErrorTime) {
			t.Errorf("after the outage: %+v", after)
		}
	})
}

// INV-14: Stats does not wait for it either.
func TestStatsTellThatASweepHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, KeepAlive: 10 * time.Second})
		idle(t, p, 1)
		hangs := make(chan struct{})
		s.ping.set(func(context.Context) error { <-hangs; return nil }) // it does not mind its context
		advance(20 * time.Second)
		before := p.Stats().SweepLate
		advance(time.Minute)
		if got := p.Stats().SweepLate - before; before <= 0 || got != time.Minute {
			t.Errorf("late by %v, and by %v more after a minute", before, got)
		}
		close(hangs)
		advance(time.Second)
		if got := p.Stats().SweepLate; got != 0 {
			t.Errorf("late by %v after the sweep has ended", got)
		}
	})
}

// INV-14: with a dial and a check under way to a server that is silent.
func TestStatsWaitForNoServer(t *testing.T) {
	cfg := sqlpool.DBConfig{MaxOpen: 2, MinIdle: 2, AcquireTimeout: time.Second, EvictionInterval: time.Second}
	onBothPools(t, cfg, func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		advance(time.Second)
		n.lost.Store(true)
		p.managed.Reset()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); _ = p.managed.Check(ctx) }()
		go func() { _, _ = p.acquire(ctx) }()
		for range 30 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			began, dialed := time.Now(), n.dialed.Load()
			_ = p.managed.Stats()
			if took := time.Since(began); took != 0 || n.dialed.Load() != dialed {
				t.Fatalf("Stats took %v, and %d dials", took, n.dialed.Load()-dialed)
			}
		}
		n.heal()
		cancel()
		<-done
	})
}

func TestStatsKeepTheFleetAsLastAsked(t *testing.T) {
	p, srv := sqlpooltest.NewPostgres(t, func(c *sqlpool.PostgresConfig) { c.MaxOpen, c.Instances = 40, 2 })
	f := p.Stats().Fleet
	if f.Asked.IsZero() || f.Demand != 123 || f.Limit != 97 || len(f.Warnings) != 1 {
		t.Errorf("after Start: %+v", f)
	}
	f.Warnings[0] = "overwritten"
	srv.Refuse()
	if _, err := p.Limits(t.Context()); err == nil {
		t.Error("Limits succeeds, though the server is gone")
	}
	again := p.Stats().Fleet
	if again.Asked != f.Asked || again.Warnings[0] == f.Warnings[0] {
		t.Errorf("after a question in vain: %+v", again)
	}
	srv.Heal()
	if _, err := p.Limits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.Stats().Fleet; !got.Asked.After(f.Asked) {
		t.Errorf("after Limits: %+v", got)
	}
}

func TestWhyTheLastDialFailedShowsNoPassword(t *testing.T) { // INV-12
	addr := testkit.FreeAddr(t)
	pg, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://app:hunter2@" + addr + "/db?sslmode=disable", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	my, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "mysql://app:hunter2@" + addr + "/db", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]interface {
		Check(ctx context.Context) error
		Stats() poolkeeper.Stats
		Stop(ctx context.Context) error
	}{"postgres": pg, "mysql": my} {
		if err := p.Check(t.Context()); err == nil {
			t.Errorf("%s: a check passes without a server", name)
		}
		if got := p.Stats().LastDialError; got == nil || strings.Contains(fmt.Sprintf("%v %+v", got, got), "hunter2") {
			t.Errorf("%s: the last dial failed because of %v", name, got)
		}
		stop(t, p)
	}
}

func TestAdoptedHandlesTellAllReasonsAndMinIdle(t *testing.T) {
	db, _ := adoptable(t)
	a, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, a) })
	hasAllReasons(t, a.Stats())

	native, _ := foreign(t)
	b, err := sqlpool.AdoptPgxPool(native, sqlpool.AdoptConfig{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	hasAllReasons(t, b.Stats())
	if got, want := b.Stats().MinIdle, int(native.Config().MinIdleConns); got != want {
		t.Errorf("MinIdle %d, want %d", got, want)
	}
}

// A scrape asks a hundred pools, so one Stats is to take microseconds.
func BenchmarkStats(b *testing.B) {
	for _, kind := range []string{"pgxpool", "database/sql"} {
		b.Run(kind, func(b *testing.B) {
			var p interface{ Stats() poolkeeper.Stats }
			var err error
			if kind == "pgxpool" {
				p, _ = sqlpooltest.NewPostgres(b)
			} else {
				p, err = sqlpool.NewDB(newFakeServer(), sqlpool.DBConfig{Logger: quiet()})
			}
			if err != nil {
				b.Fatal(err)
			}
			if s, ok := p.(*sqlpool.DB); ok {
				stopLater(b, s)
			}
			b.ReportAllocs()
			for b.Loop() {
				if p.Stats().Max == 0 {
					b.Fatal(errors.New("no limit"))
				}
			}
		})
	}
}
