package main

import (
	"context"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestMain(m *testing.M) {
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler)))
	goleak.VerifyTestMain(testserver.Main(m))
}

func TestSizesChangeUnderLoadAndNoRequestFails(t *testing.T) {
	t.Setenv("REDIS_URL", testserver.Redis(t).URL())
	t.Setenv("DATABASE_URL", testserver.Postgres(t).URL())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out testkit.Log
	if err := run(ctx, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		`both pools get larger: cache 40, orders 40; watching\n`,
		`the file has a fault: cache 40, orders 40; refused: config: …/service.yaml:2:\d+: redis.cache.max_open is "many"`,
		`one pool gets too small: cache 40, orders 40; refused: config: since the change, postgres.orders: `,
		`sizes that are right: cache 50, orders 30; watching\n`,
		`requests: [1-9]\d{2,}, failed: 0\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output has no %s:\n%s", want, out.String())
		}
	}
	if t.Failed() {
		return
	}
	t.Log(out.String())
}
