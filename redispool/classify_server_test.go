package redispool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// What a real server really says, seen through a client of its own.
func TestClassifyKnowsWhatARealServerSays(t *testing.T) {
	secret := testserver.Redis(t, "--requirepass", "sesame", "--user", "reader", "on", ">sesame", "~*", "+get", "+ping")
	full := testserver.Redis(t, "--maxclients", "2")
	small := testserver.Redis(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	busy := testserver.Redis(t, "--busy-reply-threshold", "10")
	orphan := testserver.Redis(t, "--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")
	replica := testserver.Redis(t, "--replicaof", "127.0.0.1 1")
	gone := testserver.Redis(t)
	gone.Kill(t)

	set := func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "k", "v", 0).Err() }
	get := func(ctx context.Context, c *redis.Client) error { return c.Get(ctx, "k").Err() }
	ping := func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }
	for name, tt := range map[string]struct {
		server  *testserver.Server
		options redis.Options
		do      func(context.Context, *redis.Client) error
		want    health.Kind
	}{
		"no password":           {secret, redis.Options{}, ping, health.KindAuthentication},
		"a wrong password":      {secret, redis.Options{Password: "simsalabim"}, ping, health.KindAuthentication},
		"a user who may not":    {secret, redis.Options{Username: "reader", Password: "sesame"}, set, health.KindAuthorization},
		"a database too high":   {small, redis.Options{DB: 99}, ping, health.KindNotFound},
		"a replica":             {replica, redis.Options{}, set, health.KindReadOnly},
		"a replica that is cut": {orphan, redis.Options{}, get, health.KindClusterDown},
		"nobody there":          {gone, redis.Options{}, ping, health.KindRefused},
		"too many clients": {full, redis.Options{}, func(ctx context.Context, c *redis.Client) error {
			for range 2 {
				conn := c.Conn()
				defer func() { _ = conn.Close() }()
				if err := conn.Ping(ctx).Err(); err != nil {
					return err
				}
			}
			return firstWords(ctx, full.Addr())
		}, health.KindTooManyConnections},
		"no memory": {small, redis.Options{}, func(ctx context.Context, c *redis.Client) error {
			for i := range 64 {
				if err := c.Set(ctx, string(rune('a'+i)), make([]byte, 64<<10), 0).Err(); err != nil {
					return err
				}
			}
			return nil
		}, health.KindResources},
		"a script that never ends": {busy, redis.Options{MaxRetries: -1}, func(ctx context.Context, c *redis.Client) error {
			other := redis.NewClient(c.Options())
			ended := make(chan struct{})
			go func() { // ends when the script is killed
				defer close(ended)
				_ = other.Eval(ctx, "while true do end", nil).Err()
			}()
			defer func() {
				_ = c.ScriptKill(ctx).Err()
				<-ended
				_ = other.Close()
			}()
			for ctx.Err() == nil {
				if err := ping(ctx, c); err != nil {
					return err
				}
			}
			return ctx.Err()
		}, health.KindHung},
	} {
		t.Run(name, func(t *testing.T) {
			o := tt.options
			o.Addr, o.Protocol, o.DisableIdentity = tt.server.Addr(), 2, true
			c := redis.NewClient(&o)
			defer func() { _ = c.Close() }()
			err := tt.do(within(t, patience), c)
			if err == nil {
				t.Fatal("no error")
			}
			if got := redispool.Classify(err); got.Kind != tt.want || got.Advice == "" {
				t.Errorf("%v: %q (%s), want %q", err, got.Kind, got.Advice, tt.want)
			}
		})
	}
}

// A check hands on what the server said, in a form that health reads without knowing the driver.
func TestCheckOfARejectedUserSaysSoToHealth(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "sesame")
	p, err := redispool.New(redispool.Config{URL: "redis://:simsalabim@" + srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Stop(within(t, patience)) }()
	err = p.Check(within(t, patience))
	if k := health.Classify(err).Kind; k != health.KindAuthentication {
		t.Errorf("%v: %q", err, k)
	}
	if _, ok := errors.AsType[redis.Error](err); !ok {
		t.Errorf("the server's answer is not in %v", err)
	}
}

// firstWords is what a server that is full says to a new connection. It closes at once, so that a
// client, which writes first, mostly finds its connection reset before it reads that.
func firstWords(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	said, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	return answer(strings.TrimPrefix(strings.TrimSpace(string(said)), "-"))
}
