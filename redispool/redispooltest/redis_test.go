package redispooltest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/redispool/redispooltest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func set(t *testing.T, r *redispooltest.Redis, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return r.Client().Set(ctx, "key", "value", 0).Err()
}

func mustSet(t *testing.T, r *redispooltest.Redis) {
	t.Helper()
	if err := set(t, r, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestStartedPoolWorks(t *testing.T) {
	r := redispooltest.Start(t, func(c *redispool.Config) { c.MaxOpen = 3 })
	mustSet(t, r)
	if got, err := r.Mini.Get("key"); err != nil || got != "value" {
		t.Errorf("the server has %q, %v", got, err)
	}
	if s := r.Stats(); s.Max != 3 {
		t.Errorf("Max = %d", s.Max)
	}
}

func TestFaultsFailAsTheyShouldAndHeal(t *testing.T) {
	for name, fault := range map[string]struct {
		inject func(*redispooltest.Redis)
		kind   health.Kind
	}{
		"refuse":    {(*redispooltest.Redis).Refuse, health.KindRefused},
		"hang":      {(*redispooltest.Redis).Hang, health.KindTimeout},
		"read-only": {(*redispooltest.Redis).ReadOnly, health.KindReadOnly},
	} {
		t.Run(name, func(t *testing.T) {
			r := redispooltest.Start(t)
			mustSet(t, r)
			fault.inject(r)
			fault.inject(r) // twice does no harm
			limit := 600 * time.Millisecond
			if name == "read-only" {
				limit = 5 * time.Second // go-redis tries again first
			}
			err := set(t, r, limit)
			if err == nil {
				t.Fatal("no failure")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
			defer cancel()
			if name != "read-only" {
				err = r.Check(ctx)
			}
			if k := redispool.Classify(err).Kind; k != fault.kind {
				t.Errorf("%v is classified as %q, want %q", err, k, fault.kind)
			}
			r.Heal()
			mustSet(t, r)
		})
	}
}

func TestDropIsNotNoticedByCallers(t *testing.T) {
	r := redispooltest.Start(t)
	for range 5 {
		mustSet(t, r)
		r.Drop()
	}
	mustSet(t, r)
}

func TestHeldConnectionFailsTheTest(t *testing.T) {
	var spy spy
	t.Run("victim", func(t *testing.T) {
		spy.TB = t
		r := redispooltest.Start(&spy)
		c, ok := r.Client().(*redis.Client)
		if !ok {
			t.Fatal("not a *redis.Client")
		}
		conn := c.Conn()
		if err := conn.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	})
	if text := strings.Join(spy.errors, "\n"); !strings.Contains(text, "cut off 1 connection held by conn") ||
		!strings.Contains(text, "TestHeldConnectionFailsTheTest") {
		t.Errorf("the test was told %q", text)
	}
}

// spy is a test that keeps its errors to itself.
type spy struct {
	testing.TB

	errors []string
}

func (s *spy) Errorf(format string, args ...any) {
	s.errors = append(s.errors, fmt.Sprintf(format, args...))
}

func TestFaultsDuringTheTestsEndDoNoHarm(t *testing.T) {
	r := redispooltest.Start(t)
	r.Hang()
	if err := set(t, r, 50*time.Millisecond); err == nil || errors.Is(err, redis.Nil) {
		t.Error(err)
	}
	r.Refuse()
}

func TestRefuseNewLeavesOpenConnectionsAlone(t *testing.T) {
	r := redispooltest.Start(t)
	client, ok := r.Client().(*redis.Client)
	if !ok {
		t.Fatal("not a *redis.Client")
	}
	conn := client.Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.RefuseNew()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	if err := set(t, r, 600*time.Millisecond); err == nil {
		t.Error("a new connection was accepted")
	}
}
