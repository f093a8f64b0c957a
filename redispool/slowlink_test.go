package redispool_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A command is given up after a round trip of 300 ms and more. The idle connections are slow, and
// alive.
func TestSlowLinkCondemnsNothing(t *testing.T) {
	testkit.Slow(t)
	const others = 4
	for _, c := range []struct {
		name    string
		timeout time.Duration
		lost    bool
	}{{"by default", 0, false}, {"with a SuspectPing below the round trip", 100 * time.Millisecond, true}} {
		t.Run(c.name, func(t *testing.T) {
			srv := testserver.Redis(t)
			way := testkit.NewProxy(t, srv.Addr())
			way.Delay(300 * time.Millisecond)
			p := started(t, redispool.Config{
				URL: "redis://" + way.Addr(), MaxOpen: others + 1, SuspectPing: c.timeout, KeepAlive: poolkeeper.Off,
			})
			look := admin(t, srv.Addr())
			together(t, look, p.Client(), others+1)
			was := p.Stats().Evicted["dead"]
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			if err := p.Client().BLPop(ctx, 0, "none").Err(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the command was not given up: %v", err)
			}
			eventually(t, "idle connections are pinged, or closed", func() bool {
				return pinged(t, look) >= 3 || p.Stats().Evicted["dead"] > was+1
			})
			together(t, look, p.Client(), others+1) // which takes longer than the verdict
			// The connection of the command that was given up is closed either way.
			if got := p.Stats().Evicted["dead"] - was - 1; (got > 0) != c.lost {
				t.Errorf("%d idle connections were closed, want some: %t", got, c.lost)
			}
		})
	}
}

// pinged is how many clients sent PING last, seen by the server.
func pinged(t *testing.T, look *redis.Client) int {
	t.Helper()
	list, err := look.ClientList(within(t, patience)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "cmd=ping")
}
