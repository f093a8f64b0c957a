package redispool_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestStatsTellPausesGenerationsAndMinIdle(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 3, MinIdle: 1, KeepAlive: poolkeeper.Off})
		synctest.Wait()
		if s := p.Stats(); s.MinIdle != 1 || s.OldestHold != 0 || s.Dialing != 0 || s.Paused || s.Generation != 0 || s.SweepLate != 0 ||
			!s.DownSince.IsZero() || s.LastDialError != nil || s.Members != nil {
			t.Errorf("at rest: %+v", s)
		}
		hasAllReasons(t, p.Stats())
		p.Reset()
		synctest.Wait()
		if got := p.Stats().Generation; got != 1 {
			t.Errorf("after a Reset: generation %d", got)
		}
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := p.Stats(); !s.Paused || s.Generation != 2 {
			t.Errorf("while paused: %+v", s)
		}
		p.Resume()
		if p.Stats().Paused {
			t.Error("paused after Resume")
		}
	})
}

func TestStatsTellTheOldestHoldButNotOfSubscriptions(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	sub := p.Client().Subscribe(t.Context(), "news")
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if s := p.Stats(); s.OldestHold != 0 || len(p.Holders()) != 1 {
		t.Errorf("%v, with a subscription alone: %v", s.OldestHold, p.Holders())
	}
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	held := time.Now()
	eventually(t, "the hold gets older", func() bool { return p.Stats().OldestHold > 5*time.Millisecond })
	if got, most := p.Stats().OldestHold, time.Since(began); got < time.Since(held)-time.Second || got > most {
		t.Errorf("held for %v, want at most %v", got, most)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := p.Stats().OldestHold; got != 0 {
		t.Errorf("%v after Close", got)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatsTellADialUnderWay(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{FailFastAfter: poolkeeper.Off, AcquireTimeout: time.Second}, -1, up)
		l.become(unreachable)
		synctest.Wait()
		ended := make(chan error)
		go func() { _, err := get(t, p); ended <- err }()
		time.Sleep(500 * time.Millisecond)
		if got := p.Stats().Dialing; got != 1 {
			t.Errorf("%d dials under way, want 1", got)
		}
		if err := <-ended; err == nil {
			t.Error("a command succeeds without a server")
		}
		synctest.Wait()
		if got := p.Stats().Dialing; got != 0 {
			t.Errorf("%d dials under way, want none", got)
		}
	})
}

func TestStatsKeepWhyTheLastDialFailedAndSinceWhenTheServerIsDown(t *testing.T) {
	for name, is := range map[string]int32{"refused": refusing, "loading": loading} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, l := outageBubble(t, redispool.Config{}, -1, up)
				began := time.Now()
				l.become(is)
				for time.Since(began) < 10*time.Second {
					_, _ = get(t, p)
					time.Sleep(100 * time.Millisecond)
				}
				s := p.Stats()
				// A server that loads its data answers.
				if is == refusing && (s.DownSince.Before(began) || s.DownSince.After(time.Now())) {
					t.Errorf("down since %v, the outage began at %v", s.DownSince, began)
				}
				if kind := redispool.Classify(s.LastDialError).Kind; s.LastDialError == nil || kind == "" || kind == "unknown" || s.LastDialErrorTime.Before(began) {
					t.Errorf("the last dial failed at %v: %v", s.LastDialErrorTime, s.LastDialError)
				}
				l.become(up)
				time.Sleep(time.Minute)
				if _, err := get(t, p); err != nil {
					t.Fatal(err)
				}
				if after := p.Stats(); !after.DownSince.IsZero() || after.LastDialError == nil {
					t.Errorf("after the outage: %+v", after)
				}
			})
		})
	}
}

// INV-14: with dials, a login, a check and a fill under way.
func TestStatsWaitForNoServer(t *testing.T) {
	for name, is := range map[string]int32{"unreachable": unreachable, "mute": mute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, l := outageBubble(t, redispool.Config{MinIdle: 2, MaxIdleTime: 10 * time.Second, AcquireTimeout: time.Second}, -1, up)
				synctest.Wait()
				l.become(is)
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				go func() { _ = p.Check(ctx) }()
				for range 30 {
					go func() { _ = p.Client().Get(ctx, "key").Err() }()
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					began, dials := time.Now(), l.dials.Load()
					s, expiries := p.Stats(), p.Expiries()
					if took := time.Since(began); took != 0 || l.dials.Load() != dials || s.Max == 0 || expiries != nil {
						t.Fatalf("Stats took %v, and %d dials", took, l.dials.Load()-dials)
					}
				}
				time.Sleep(5 * time.Second)
			})
		})
	}
}

func TestStatsKeepWhyALoginFailed(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "right")
	p := newPool(t, redispool.Config{URL: "redis://:hunter2@" + srv.Addr(), Start: poolkeeper.StartDegraded})
	if err := p.Client().Ping(t.Context()).Err(); err == nil {
		t.Fatal("a wrong password is accepted")
	}
	got := p.Stats().LastDialError
	if got == nil || redispool.Classify(got).Kind != "authentication" || strings.Contains(got.Error(), "hunter2") { // INV-12
		t.Errorf("the last dial failed because of %v", got)
	}
}

func TestStatsKeepTheFleetAsLastAsked(t *testing.T) {
	srv := testserver.Redis(t, "--maxclients", "50")
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 40, Instances: 2})
	f := p.Stats().Fleet
	if f.Asked.IsZero() || f.Demand != 123 || f.Limit != 50 || f.OnServer < 1 || len(f.Warnings) == 0 {
		t.Fatalf("after Start: %+v", f)
	}
	f.Warnings[0] = "overwritten"
	if again := p.Stats().Fleet; again.Asked != f.Asked || again.Warnings[0] == f.Warnings[0] {
		t.Errorf("asked again, or overwritten: %+v", again)
	}
	if _, err := p.Limits(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := p.Stats().Fleet
	if !after.Asked.After(f.Asked) {
		t.Errorf("after Limits: %+v", after)
	}
	srv.Kill(t)
	if _, err := p.Limits(t.Context()); err == nil {
		t.Error("Limits succeeds without a server")
	}
	if got := p.Stats().Fleet; got.Asked != after.Asked {
		t.Errorf("after a question in vain: %+v", got)
	}
}

func TestStatsTellEachNodeOfACluster(t *testing.T) {
	k := newCluster(t, 3, 1) // the replica is the first primary's
	p := started(t, redispool.Config{Options: k.options(), MaxOpen: 7, MinIdle: 1, FailFastAfter: 100 * time.Millisecond})
	log := subscribed(p)
	for _, key := range []string{"{b}q", "{c}q", "{a}q"} { // slots 3300, 7365, 15495
		if err := p.Client().Set(t.Context(), key, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	primaries := func() (n int) {
		for _, m := range p.Stats().Members {
			if m.Primary {
				n++
			}
		}
		return n
	}
	eventually(t, "the checks have found three primaries", func() bool { return p.Check(t.Context()) == nil && primaries() == 3 })
	s := p.Stats()
	var open, max int
	var dials uint64
	for _, m := range s.Members {
		hasAllReasons(t, m.Stats)
		isReplica := m.Name == k.nodes[3].Addr()
		if m.State != "ready" || m.InRotation == isReplica || m.Primary == isReplica || m.HasLag || m.Stats.Max != 7 {
			t.Errorf("%+v", m)
		}
		open, max, dials = open+m.Stats.Open, max+m.Stats.Max, dials+m.Stats.Dials
	}
	if open != s.Open || max != s.Max || dials != s.Dials || s.MinIdle != len(s.Members) {
		t.Errorf("the sums of the nodes are %d open, %d max, %d dials; those of the pool %+v", open, max, dials, s)
	}
	if !slices.IsSortedFunc(s.Members, func(a, b poolkeeper.MemberStats) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the nodes are not in the order of their names")
	}

	k.nodes[2].Kill(t) // it has no replica
	eventually(t, "the node is known to be down", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_ = p.Client().Get(ctx, "{a}q").Err()
		for _, m := range p.Stats().Members {
			if m.Name == k.nodes[2].Addr() {
				return m.State == "down" && !m.InRotation && !m.Stats.DownSince.IsZero() && m.Stats.LastDialError != nil
			}
		}
		return false
	})
	after := p.Stats()
	if after.DownSince.IsZero() || after.LastDialError == nil {
		t.Errorf("one node is down, and the pool says %+v", after)
	}
	eventually(t, "the loss of the node is told", func() bool { return len(log.Of(poolkeeper.EventMemberLost)) == 1 })
	if lost := log.Of(poolkeeper.EventMemberLost); lost[0].Err == nil || lost[0].Cause == "" || len(log.Of(poolkeeper.EventDown)) > 0 {
		t.Errorf("one node is lost, and the pool says %v, and that it is down: %v", lost, log.Of(poolkeeper.EventDown))
	}
	k.nodes[2].Restart(t)
	eventually(t, "the node is back", func() bool { return len(log.Of(poolkeeper.EventMemberBack)) == 1 })
	if i := slices.IndexFunc(after.Members, func(m poolkeeper.MemberStats) bool { return m.Name == k.nodes[0].Addr() }); i < 0 ||
		!after.Members[i].Stats.DownSince.IsZero() || after.Members[i].State != "ready" {
		t.Errorf("the others: %+v", after.Members)
	}
}

func TestAdoptedClientTellsAllReasonsAndMinIdle(t *testing.T) {
	_, a := foreign(t, &redis.Options{Addr: testserver.Redis(t).Addr(), PoolSize: 5, MinIdleConns: 2}, redispool.AdoptConfig{})
	s := a.Stats()
	hasAllReasons(t, s)
	if s.MinIdle != 2 || s.Max != 5 {
		t.Errorf("%+v", s)
	}
}

// A scrape asks a hundred pools, so one Stats is to take microseconds.
func BenchmarkStats(b *testing.B) {
	p := started(b, redispool.Config{URL: testserver.Redis(b).URL()})
	if err := p.Client().Ping(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p.Stats().Max == 0 {
			b.Fatal("no limit")
		}
	}
}
