package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// serve starts a Redis in memory for the examples.
func serve() (url string, stop func()) {
	m, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	return "redis://" + m.Addr(), m.Close
}

func ExampleNew() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()

	cache, err := redispool.New(redispool.Config{URL: url, MaxOpen: 20, MinIdle: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := cache.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if err := cache.Stop(ctx); err != nil {
			fmt.Println(err)
		}
	}()

	rdb := cache.Client() // redis.UniversalClient
	rdb.Set(ctx, "greeting", "hello", 0)
	fmt.Println(rdb.Get(ctx, "greeting").Val())
	// Output: hello
}

func ExampleConfig_Validate() {
	err := redispool.Config{
		URL:     "redis://localhost:6379/0?pool_size=10",
		MinIdle: 15,
		Start:   poolkeeper.StartPolicy(7),
	}.Validate()
	fmt.Println(err)
	// Output:
	// redispool: MinIdle is 15; it must be 0 to MaxOpen, 10
	// redispool: Start is StartPolicy(7); it must be StartFailFast, StartWaitForServer or StartDegraded
}

func ExamplePool_Drain() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{URL: url})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb := cache.Client()
	err = rdb.Watch(ctx, func(tx *redis.Tx) error { // begun before the drain: it may finish
		soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		fmt.Println("drained:", cache.Drain(soon) == nil)
		_, terr := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		return terr
	}, "n")
	fmt.Println("transaction:", err)
	fmt.Println("new work is refused:", errors.Is(rdb.Incr(ctx, "n").Err(), poolkeeper.ErrDraining))
	fmt.Println("stop:", cache.Stop(ctx))
	// Output:
	// drained: false
	// transaction: <nil>
	// new work is refused: true
	// stop: <nil>
}

func Example_acquireError() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{
		URL: url, Name: "cache", MaxOpen: 1, AcquireTimeout: 50 * time.Millisecond, DisableLeakStacks: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb, ok := cache.Client().(*redis.Client)
	if !ok {
		return
	}
	conn := rdb.Conn() // holds the only connection
	conn.Ping(ctx)

	err = rdb.Ping(ctx).Err()
	if acquire, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		fmt.Println(acquire.InUse, "of", acquire.Max, "in use")
	}
	head, _, _ := strings.Cut(err.Error(), " for ")
	fmt.Println(head)
	fmt.Println(errors.Join(conn.Close(), cache.Stop(ctx)))
	// Output:
	// 1 of 1 in use
	// poolkeeper: acquire from "cache": 1 of 1 in use, oldest conn
	// <nil>
}

func ExamplePool_Holders() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{URL: url})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb, ok := cache.Client().(*redis.Client)
	if !ok {
		return
	}
	conn := rdb.Conn()
	conn.Ping(ctx)
	for _, h := range cache.Holders() {
		innermost, _, _ := strings.Cut(h.Stack, " (")
		fmt.Println(h.Kind, "by", innermost[strings.LastIndex(innermost, "/")+1:])
	}
	fmt.Println(conn.Close(), len(cache.Holders()), cache.Stop(ctx))
	// Output:
	// conn by redispool_test.ExamplePool_Holders
	// <nil> 0 <nil>
}

func ExamplePool_Stats() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{URL: url, MaxOpen: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	cache.Client().Ping(ctx)
	s := cache.Stats()
	fmt.Println(s.Max, s.Open, s.InUse, s.Idle, s.Dials)
	fmt.Println(cache.Stop(ctx), cache.Stats().Evicted[poolkeeper.EvictedClosed])
	// Output:
	// 8 1 0 1 1
	// <nil> 1
}

// Ask needs no pool that runs. A server in memory lets nobody read its settings: LeftOut says so.
func ExampleAsk() {
	url, stop := serve()
	defer stop()

	a, err := redispool.Ask(context.Background(), redispool.Config{URL: url, MaxOpen: 20, Instances: 12})
	if err != nil {
		fmt.Println(redispool.Classify(err).Advice)
		return
	}
	fmt.Println("answered a ping:", a.Latency.PingP50 > 0)
	fmt.Println("12 instances, and 3 in a rolling update, may open", a.Limits.Demand, "connections")
	fmt.Println(len(a.LeftOut) > 0)
	// Output:
	// answered a ping: true
	// 12 instances, and 3 in a rolling update, may open 315 connections
	// true
}

func ExampleClassify() {
	fault := redispool.Classify(fmt.Errorf("login: %w", redis.ErrPoolTimeout))
	fmt.Println(fault.Kind)
	// Output: pool-exhausted
}

// An operator is paged by what the pool does, and not by what its log says.
func ExamplePool_Subscribe() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()

	cache, err := redispool.New(redispool.Config{Name: "cache", URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	cancel := cache.Subscribe(func(e poolkeeper.Event) {
		if e.Level >= slog.LevelWarn {
			fmt.Println("page an operator:", e, e.Advice)
			return
		}
		fmt.Println(e.Kind+":", e)
	})
	defer cancel()
	if err := errors.Join(cache.Start(ctx), cache.Pause(ctx)); err != nil {
		fmt.Println(err)
		return
	}
	cache.Resume()
	if err := cache.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// paused: "cache": paused: callers wait until Resume
	// resumed: "cache": resumed: callers go on
}
