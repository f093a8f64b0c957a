package pgo_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func started(tb testing.TB) (*redispool.Pool, *redis.Client) {
	tb.Helper()
	p, err := redispool.New(redispool.Config{
		URL: "redis://" + miniredis.RunT(tb).Addr(), MaxOpen: 4, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	c, ok := p.Client().(*redis.Client)
	if !ok {
		tb.Fatalf("the client is a %T", p.Client())
	}
	return p, c
}

// BenchmarkSessions is what the profile is taken of: the code whose calls are told apart.
func BenchmarkSessions(b *testing.B) {
	_, c := started(b)
	ctx := b.Context()
	for b.Loop() {
		if err := c.Watch(ctx, func(*redis.Tx) error { return nil }, "key"); err != nil {
			b.Fatal(err)
		}
		one := c.Conn()
		if err := one.Close(); err != nil {
			b.Fatal(err)
		}
		short := c.EphemeralConn()
		if err := short.Ping(ctx).Err(); err != nil {
			b.Fatal(err)
		}
		if err := short.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// isHeld checks that the books show one holder of that kind, and that a drain waits for it.
func isHeld(t *testing.T, p *redispool.Pool, kind string) {
	t.Helper()
	if h := p.Holders(); len(h) != 1 || h[0].Kind != kind {
		t.Errorf("holders: %v, want one %s", h, kind)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Drain(ctx); err == nil {
		t.Errorf("Drain does not wait for a %s", kind)
	}
}

func TestAWatchIsSeenAndEndsWell(t *testing.T) {
	p, c := started(t)
	err := c.Watch(t.Context(), func(tx *redis.Tx) error {
		isHeld(t, p, "watch")
		_, err := tx.TxPipelined(t.Context(), func(x redis.Pipeliner) error { return x.Set(t.Context(), "key", 1, 0).Err() })
		return err
	}, "key")
	if err != nil {
		t.Errorf("the Watch under way when the drain began: %v", err)
	}
}

func TestAConnIsSeenAndEndsWell(t *testing.T) {
	p, c := started(t)
	one := c.Conn()
	if err := one.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	isHeld(t, p, "conn")
	if err := one.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a command of the Conn after the drain began: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
}

// A command that needs a new connection is under way when the drain begins.
func TestALoginDuringADrainEndsWell(t *testing.T) {
	p, c := started(t)
	p.Reset()
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() { close(began); done <- c.BLPop(t.Context(), time.Second, "none").Err() }()
	<-began
	testkit.Eventually(t, "the command is under way", func() bool { return p.Stats().InUse > 0 || len(done) > 0 })
	if err := p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != redis.Nil { //nolint:errorlint // as go-redis returns it
		t.Errorf("BLPOP: %v", err)
	}
}
