package redispool_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// Consumers wait in BLPOP and XREAD BLOCK without a limit. The drain has the server end them;
// nothing that was popped is lost, and the connections of others are left alone.
func TestDrainEndsBlockingCommandsOnTheServer(t *testing.T) { // INV-8
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{URL: srv.URL()})
	other := rawClient(t, &redis.Options{Addr: srv.Addr()})
	ctx := within(t, patience)
	results := map[string]chan error{}
	for name, wait := range map[string]func() error{
		"blpop": func() error { return p.Client().BLPop(ctx, 0, "list").Err() },
		"xread": func() error {
			return p.Client().XRead(ctx, &redis.XReadArgs{Streams: []string{"stream", "$"}, Block: 0}).Err()
		},
		"pipeline": func() error {
			_, err := p.Client().Pipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.Ping(ctx)
				pipe.BRPop(ctx, 0, "list")
				return nil
			})
			return err
		},
		"conn": func() error {
			c := single(t, p).Conn()
			err := c.BLMove(ctx, "list", "taken", "left", "right", 0).Err()
			return errors.Join(err, c.Close())
		},
		"others": func() error { return other.BLPop(ctx, 0, "others").Err() },
	} {
		result := make(chan error, 1)
		results[name] = result
		go func() { result <- wait() }()
	}
	eventually(t, "all wait", func() bool { return blocked(t, look) == len(results) })
	begun := time.Now()
	if err := p.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the drain took %s", took)
	}
	for _, name := range []string{"blpop", "xread", "pipeline", "conn"} {
		if err := <-results[name]; !errors.Is(err, redis.Nil) {
			t.Errorf("%s: %v, want redis.Nil as after a timeout", name, err)
		}
	}
	if n := blocked(t, look); n != 1 {
		t.Errorf("%d still wait, want 1: somebody else's", n)
	}
	if err := look.RPush(ctx, "others", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-results["others"]; err != nil {
		t.Errorf("somebody else's BLPOP: %v", err)
	}
}

func TestDrainWaitsWhereItMayNotUnblock(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	if err := look.Do(t.Context(), "acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all", "-client|list", "-client|unblock").Err(); err != nil {
		t.Fatal(err)
	}
	var out testkit.Log
	p := started(t, redispool.Config{URL: "redis://app:pw@" + srv.Addr(), Logger: out.Logger()})
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(within(t, patience), 0, "list").Err() }()
	eventually(t, "it waits", func() bool { return blocked(t, look) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain = %v", err)
	}
	if text := out.String(); text == "" {
		t.Error("nothing was logged")
	}
	if err := look.RPush(t.Context(), "list", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// On a local socket the server names its clients by the socket's path.
func TestDrainEndsBlockingCommandsOnALocalSocket(t *testing.T) { // INV-8
	path := filepath.Join(t.TempDir(), "r.sock")
	srv := testserver.Redis(t, "--unixsocket", path)
	p := started(t, redispool.Config{URL: "unix://" + path})
	ctx := within(t, patience)
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(ctx, 0, "list").Err() }()
	look := admin(t, srv.Addr())
	eventually(t, "it waits", func() bool { return blocked(t, look) == 1 })
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := p.Drain(bounded); err != nil {
		t.Error(err)
	}
	if err := p.Abort(); err != nil {
		t.Log(err)
	}
	if err := <-result; !errors.Is(err, redis.Nil) {
		t.Errorf("BLPOP: %v, want redis.Nil as after a timeout", err)
	}
}
