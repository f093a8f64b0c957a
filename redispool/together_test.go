package redispool_test

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// The operator does everything at once: pauses, reloads, recycles, a password renewed on disk.
// Commands, pipelines, watches and Conns go on, and at the end nothing is left of any of it.
func TestEverythingAtOnceFailsNothing(t *testing.T) { // INV-8, INV-9
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	do(t, look, "acl setuser app on nopass ~* &* +@all") // any password will do
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("app:0"))
	cfg := redispool.Config{
		URL: srv.URL() + "?client_name=p&max_retries=-1", MaxOpen: 4, MaxOpenCeiling: 12, MinIdle: 1, AcquireTimeout: patience,
		MaxIdleTime: 100 * time.Millisecond, EvictionInterval: 10 * time.Millisecond, KeepAlive: 20 * time.Millisecond,
		MaxLifetime: 50 * time.Millisecond, CredentialsFile: file, FileInterval: 15 * time.Millisecond, Logger: silent(),
	}
	p := started(t, cfg)
	ctx := within(t, 2*patience)
	var calls, ops sync.WaitGroup
	var ended atomic.Bool
	var done atomic.Int64
	for name, call := range map[string]func(c *redis.Client) error{
		"command":  func(c *redis.Client) error { return c.Incr(ctx, "n").Err() },
		"pipeline": func(c *redis.Client) error { return ping(ctx, c.Pipeline()) },
		"transaction in a watch": func(c *redis.Client) error {
			err := c.Watch(ctx, func(tx *redis.Tx) error { return ping(ctx, tx.TxPipeline()) }, "w")
			return err
		},
		"conn": func(c *redis.Client) error {
			conn := c.Conn()
			return errors.Join(conn.Incr(ctx, "n").Err(), conn.Ping(ctx).Err(), conn.Close())
		},
	} {
		for range 3 {
			calls.Go(func() {
				for !ended.Load() {
					if err := call(single(t, p)); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					done.Add(1)
				}
			})
		}
	}
	operate := func(every time.Duration, op func(i int) error) {
		ops.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := 0; !ended.Load(); i++ {
				<-tick.C
				if err := op(i); err != nil && !ended.Load() {
					t.Error(err)
					return
				}
			}
		})
	}
	operate(7*time.Millisecond, func(i int) error {
		next := cfg
		next.MaxOpen = 1 + i*5%12
		next.MinIdle = i % (next.MaxOpen + 1)
		return p.Reload(ctx, next)
	})
	operate(40*time.Millisecond, func(int) error {
		defer p.Resume()
		return p.Pause(ctx)
	})
	operate(60*time.Millisecond, func(int) error { p.Reset(); return nil })
	operate(50*time.Millisecond, func(i int) error { write(t, file, []byte("app:"+strconv.Itoa(i))); return nil })
	operate(5*time.Millisecond, func(int) error { _ = p.Holders(); _ = p.Stats(); return nil })

	t.Cleanup(func() { // if what follows is given up
		ended.Store(true)
		calls.Wait()
		ops.Wait()
	})
	eventually(t, "a good deal of both", func() bool {
		s := p.Stats()
		return t.Failed() || done.Load() > 2000 && s.Evicted["reload"] > 200
	})
	ended.Store(true)
	calls.Wait()
	ops.Wait()
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if n := clients(t, look)["p"]; n != 0 {
		t.Errorf("the server still sees %d connections", n)
	}
	if s := p.Stats(); s.InUse != 0 || s.Waiting != 0 || len(p.Holders()) != 0 {
		t.Errorf("left over: %+v, %v", s, p.Holders())
	}
}

func ping(ctx context.Context, pipe redis.Pipeliner) error {
	pipe.Ping(ctx)
	pipe.Incr(ctx, "n")
	_, err := pipe.Exec(ctx)
	return err
}
