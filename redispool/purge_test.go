package redispool_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// inUse has n commands block on the server for as long as it is told, and waits until they do.
func inUse(t *testing.T, p *redispool.Pool, n int, long time.Duration) *sync.WaitGroup {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := p.Client().BLPop(t.Context(), long, "none").Err(); !errors.Is(err, redis.Nil) {
				t.Errorf("BLPOP: %v", err)
			}
		})
	}
	synctest.Wait()
	return &all
}

// A connection whose lifetime has ended while it was in use is closed when it comes back, not at
// the next sweep.
func TestLifetimeThatEndsInUseIsKeptAtTheReturn(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{
			MaxOpen: 5, MaxLifetime: time.Minute, EvictionInterval: 30 * time.Second, KeepAlive: poolkeeper.Off,
		})
		inUse(t, p, 5, 95*time.Second).Wait()
		time.Sleep(10 * time.Millisecond)
		if s := p.Stats(); s.Open != 0 || s.Evicted[poolkeeper.EvictedLifetime] != 5 {
			t.Errorf("after the return: %d open, evicted %v", s.Open, s.Evicted)
		}
	})
}

// However long a connection was in use after Reset, it is closed when it comes back.
func TestRecycleOfConnectionsInUseIsKeptAtTheReturn(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 9, KeepAlive: poolkeeper.Off})
		held := single(t, p).Conn()
		if err := held.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		all := inUse(t, p, 5, time.Hour)
		p.Reset()
		all.Wait()
		time.Sleep(10 * time.Millisecond)
		if s := p.Stats(); s.Open != 1 || s.Evicted[poolkeeper.EvictedReload] != 5 {
			t.Errorf("after the return: %d open, evicted %v", s.Open, s.Evicted)
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if s := p.Stats(); s.Open != 0 {
			t.Errorf("%d open a second after the Conn was closed", s.Open)
		}
	})
}

// A connection that was condemned long ago does not delay the closing of one that is condemned now.
func TestOneInUseForLongDoesNotDelayTheOthers(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 9, KeepAlive: poolkeeper.Off})
		long := inUse(t, p, 1, time.Hour)
		p.Reset()
		time.Sleep(10 * time.Minute)
		short := inUse(t, p, 4, 65*time.Second)
		p.Reset()
		short.Wait()
		time.Sleep(10 * time.Millisecond)
		if s := p.Stats(); s.Open != 1 {
			t.Errorf("%d open, want the one in use", s.Open)
		}
		long.Wait()
		time.Sleep(10 * time.Millisecond)
		if s := p.Stats(); s.Open != 0 {
			t.Errorf("%d open, want none", s.Open)
		}
	})
}
