package redispool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// After as many failed dials as the pool is large go-redis refuses to dial, and looks once a second
// whether the server is back. The pool answers that look itself, and sooner.
func TestDiallingIsTakenUpAsSoonAsTheServerIsBack(t *testing.T) {
	const size = 2
	srv := testserver.Redis(t)
	ping := func(c *redis.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		return c.Ping(ctx).Err()
	}
	// backAfter is how long after the server is back a client that refuses to dial gets through.
	backAfter := func(c *redis.Client) time.Duration {
		srv.Kill(t)
		for range 2 * size {
			if ping(c) == nil {
				t.Fatal("PONG from a dead server")
			}
		}
		srv.Restart(t)
		begun := time.Now()
		eventually(t, "a PONG", func() bool { return ping(c) == nil })
		return time.Since(begun)
	}
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, MaxRetries: -1}, MaxOpen: size,
		KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off,
	})
	managed := backAfter(single(t, p))
	raw := backAfter(rawClient(t, &redis.Options{Addr: srv.Addr(), PoolSize: size, MaxRetries: -1, DialerRetries: 1}))
	t.Logf("first success after the restart: managed %s, raw %s", managed, raw)
	if raw-managed < 300*time.Millisecond {
		t.Errorf("managed %s, raw %s; want the most of a second less", managed, raw)
	}
}

// An outage with MinIdle to fill ends without a storm: the server sees as many connections as are
// wanted, and during the outage one caller at a time asks whether it is back.
func TestOutageEndsWithoutADialStorm(t *testing.T) {
	const minIdle = 8
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p"},
		MaxOpen: 30, MinIdle: minIdle, EvictionInterval: 20 * time.Millisecond,
	})
	eventually(t, "MinIdle is there", func() bool { return p.Stats().Idle == minIdle })
	load := endureInBackground(t, p.Client())
	before := p.Stats()
	srv.Kill(t)
	sleep(2 * time.Second)
	srv.Restart(t)
	eventually(t, "MinIdle is there again", func() bool { return len(pools(t, look)) >= minIdle && p.Stats().Idle >= minIdle })
	load()
	after := p.Stats()
	dials, failed := after.Dials-before.Dials, after.DialErrors-before.DialErrors
	t.Logf("%d dials, %d failed", dials, failed)
	// Those that callers and MinIdle need, the check's, the inspection's; and not many times that.
	if dials > 3*(minIdle+callers+2) {
		t.Errorf("%d connections were opened, for %d callers and MinIdle %d", dials, callers, minIdle)
	}
	// The scout asks every 100 ms, go-redis' own probe too; each caller and the adder once when it
	// begins to wait.
	if failed > 200 {
		t.Errorf("%d dials failed in 2 s", failed)
	}
}

// While the server refuses, one caller asks whether it is back. The others wait for its answer, and
// dial nothing that is refused as well.
func TestCallersOfAServerThatRefusesDialOneAtATime(t *testing.T) {
	const callers = 40
	srv := testserver.Redis(t)
	way := testkit.NewProxy(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: -1},
		MaxOpen: callers, FailFastAfter: poolkeeper.Off,
	})
	before := p.Stats().DialErrors
	way.Refuse(t, true)
	way.Reset()
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				if p.Client().Incr(ctx, "n").Err() != nil {
					failed.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	dials := int64(p.Stats().DialErrors - before)
	t.Logf("%d calls failed, and %d dials", failed.Load(), dials)
	if failed.Load() != 5*callers || dials > failed.Load() {
		t.Errorf("%d of %d calls failed, with %d dials", failed.Load(), 5*callers, dials)
	}
}

// endureInBackground has callers write every 20 ms until the function that it returns is called.
func endureInBackground(tb testing.TB, c redis.UniversalClient) (end func()) {
	tb.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		load{workers: callers, pace: 20 * time.Millisecond, limit: 500 * time.Millisecond}.
			endure(tb, c, 0, func() { <-stop })
	}()
	return func() {
		close(stop)
		<-done
	}
}
