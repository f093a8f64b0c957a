package redispool_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// That it compiles shows that go-redis takes it; its logger is the whole program's, so it is not
// set here.
var _ = func() { redis.SetLogger(redispool.GoRedisLogger(nil)) }

func TestGoRedisLinesAreLimitedByKind(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		var out testkit.Log
		l := redispool.GoRedisLogger(out.Logger())
		dials := func() {
			l.Printf(t.Context(), "redis: connection pool: failed to dial after %d attempts: %v", 5, errors.New("refused"))
		}
		for range 1000 {
			dials()
			l.Printf(t.Context(), "%s", "conn[17] handoff failed")
			l.Printf(t.Context(), "%s", "conn[18] handoff failed")
		}
		l.Printf(t.Context(), "sentinel: new master=%q addr=%q", "main", "10.0.0.7:6379")
		time.Sleep(time.Minute)
		dials()
		const dialLine = `level=WARN msg="go-redis: connection pool: failed to dial after 5 attempts: refused"`
		for want, n := range map[string]int{
			dialLine: 6, dialLine + " skipped=995": 1, "handoff failed": 5,
			`level=INFO msg="go-redis: sentinel: new master=\"main\" addr=\"10.0.0.7:6379\""`: 1,
		} {
			if got := strings.Count(out.String(), want); got != n {
				t.Errorf("%d lines with %s, want %d", got, want, n)
			}
		}
	})
}

// go-redis writes its lines on the goroutines of callers.
func TestHostileHandlerDoesNotHarmCallersOfGoRedis(t *testing.T) {
	redispool.GoRedisLogger(slog.New(hostileHandler{})).Printf(t.Context(), "%s", "x") // returns
}

type hostileHandler struct{}

func (hostileHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (hostileHandler) Handle(context.Context, slog.Record) error { panic("handler") }
func (h hostileHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h hostileHandler) WithGroup(string) slog.Handler           { return h }
