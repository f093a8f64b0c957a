package redispool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestThisGoRedisIsKnown(t *testing.T) {
	if err := redispool.SelfCheck(); err != nil {
		t.Error(err)
	}
}

// On a go-redis that behaves otherwise everything works but the tracking of sessions, and the log
// says so.
func TestUnknownGoRedisIsUsedWithoutTrackingSessions(t *testing.T) {
	redispool.FailSelfCheck(t, errors.New("another go-redis"))
	srv := testserver.Redis(t, ofUsers("app:secret")...)
	var out testkit.Log
	cfg := redispool.Config{
		Options: &redis.UniversalOptions{
			Addrs: []string{srv.Addr()}, Username: "app", Password: "secret", DB: 2, ClientName: "reduced",
			OnConnect: func(ctx context.Context, c *redis.Conn) error { return c.Set(ctx, "connected", 1, 0).Err() },
		},
		MaxOpen: 2, MaxIdleTime: 100 * time.Millisecond, EvictionInterval: 20 * time.Millisecond, Logger: out.Logger(),
	}
	p := started(t, cfg)
	if text := out.String(); strings.Count(text, "this version of go-redis is not known") != 1 || !strings.Contains(text, "another go-redis") {
		t.Errorf("the log does not say so:\n%s", text)
	}
	client := single(t, p)
	ctx := within(t, patience)
	use := func(when string) {
		t.Helper()
		one := client.Conn()
		errs := []error{one.Set(ctx, "a", 1, 0).Err()}
		_, err := one.Pipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Incr(ctx, "a").Err() })
		wantHolders(t, p, "")
		errs = append(errs, err, one.Close(), client.Watch(ctx, func(tx *redis.Tx) error {
			_, terr := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Incr(ctx, "a").Err() })
			return terr
		}, "a"))
		if got := client.Get(ctx, "a").Val(); got != "3" {
			t.Errorf("%s: a is %q", when, got)
		}
		sub := client.Subscribe(ctx, "news")
		_, err = sub.Receive(ctx)
		wantHolders(t, p, "pubsub")
		if err = errors.Join(append(errs, err, sub.Close())...); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	use("at first")
	later := new(passing)
	client.AddHook(later)
	next := cfg
	next.MaxOpen = 1
	if err := p.Reload(ctx, next); err != nil {
		t.Fatal(err)
	}
	eventually(t, "idle connections are evicted", func() bool { return p.Stats().Open == 0 })
	use("after a hook and a Reload")

	held := client.Conn()
	if err := held.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Drain(ctx); err != nil { // it does not know of the Conn
		t.Error(err)
	}
	if err := held.Ping(ctx).Err(); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("a command of a Conn while draining: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}
