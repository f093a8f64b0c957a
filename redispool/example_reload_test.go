package redispool_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A failover that is planned: callers wait for the moment that it takes, and find the new server.
func ExamplePool_Pause() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{URL: url, AcquireTimeout: 10 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb := cache.Client()
	rdb.Set(ctx, "greeting", "hello", 0)

	if err := cache.Pause(ctx); err != nil { // waits for what is in flight
		fmt.Println(err)
	}
	fmt.Println("open:", cache.Stats().Open)
	time.AfterFunc(50*time.Millisecond, cache.Resume) // when the new server has taken over the name
	fmt.Println(rdb.Get(ctx, "greeting").Result())    // waits until then

	fmt.Println(cache.Stop(ctx))
	// Output:
	// open: 0
	// hello <nil>
	// <nil>
}

func ExamplePool_Reload() {
	url, stop := serve()
	defer stop()
	ctx := context.Background()
	cfg := redispool.Config{
		URL: url, Name: "cache", MaxOpen: 10, MaxOpenCeiling: 50,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	cache, err := redispool.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}

	cfg.MaxOpen, cfg.MinIdle = 30, 5
	changes, err := cache.Plan(cfg) // if you like to see it first
	fmt.Println(changes, err)
	fmt.Println(cache.Reload(ctx, cfg), cache.Stats().Max)

	cfg.MaxOpen = 60
	fmt.Println(cache.Reload(ctx, cfg))
	fmt.Println(cache.Stop(ctx))
	// Output:
	// [{MaxOpen 10 30} {MinIdle 0 5}] <nil>
	// <nil> 30
	// redispool: reload "cache": nothing was changed: redispool: MaxOpenCeiling is 50; it must be 0 (MaxOpen) or from MaxOpen, 60, to 65535
	// <nil>
}

// A secret that is rotated on disk: no code runs for it, and no command fails.
func ExampleConfig_credentialsFile() {
	m, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	m.RequireAuth("first")
	secret := filepath.Join(os.TempDir(), "redispool-example-secret")
	defer func() { _ = os.Remove(secret) }()
	_ = os.WriteFile(secret, []byte("first\n"), 0o600)

	ctx := context.Background()
	cache, err := redispool.New(redispool.Config{
		URL: "redis://" + m.Addr(), CredentialsFile: secret, FileInterval: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cache.Start(ctx), cache.Client().Set(ctx, "a", 1, 0).Err())

	m.RequireAuth("second")
	_ = os.WriteFile(secret, []byte("second\n"), 0o600)
	for range time.Tick(time.Millisecond) {
		if cache.Stats().Evicted[poolkeeper.EvictedReload] > 0 { // the connection by the old password
			break
		}
	}
	fmt.Println(cache.Client().Get(ctx, "a").Result())
	fmt.Println(cache.Stop(ctx))
	// Output:
	// <nil> <nil>
	// 1 <nil>
	// <nil>
}
