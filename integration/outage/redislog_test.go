package outage_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A service that can do without its cache starts before Redis does.
func TestACacheThatComesLateIsOneLineOfEachKind(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Redis(t)
	srv.Kill(t)
	var out testkit.Log
	log := slog.New(slog.NewJSONHandler(&out, nil))
	cache, err := redispool.New(redispool.Config{URL: srv.URL(), MaxOpen: 10, Start: poolkeeper.StartDegraded, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	reg := lifecycle.New(lifecycle.Config{Logger: log})
	reg.Add("cache", cache, lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading}))
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	traffic := load(t, func(ctx context.Context) error { return cache.Client().Get(ctx, "key").Err() })
	testkit.Eventually(t, "pool and check say that the server is down", func() bool {
		got := lines(t, out.String())
		return got[line{"WARN", "pool cache", "down"}] > 0 && got[line{"WARN", "check cache", "down"}] > 0
	})
	sleep(2 * time.Second)
	srv.Restart(t)
	testkit.Eventually(t, "pool and check say that it is there", func() bool {
		got := lines(t, out.String())
		return got[line{"INFO", "pool cache", "up"}] > 0 && got[line{"INFO", "check cache", "up"}] > 0
	})
	traffic.stop()
	if err := reg.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	t.Logf("the log:\n%s", out.String())
	for l, n := range lines(t, out.String()) {
		if n != 1 || l.level == "ERROR" {
			t.Errorf("%d lines %+v, want one, and no error", n, l)
		}
	}
}
