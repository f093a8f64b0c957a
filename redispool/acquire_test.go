package redispool_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// exhausted returns a pool of two connections, both held by a Conn of this function.
func exhausted(t *testing.T, cfg redispool.Config) *redispool.Pool {
	t.Helper()
	cfg.URL, cfg.Name, cfg.MaxOpen = testserver.SharedRedis(t).URL(), "cache", 2
	p := started(t, cfg)
	for range cfg.MaxOpen {
		c := single(t, p).Conn()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return p
}

func TestPoolTimeoutExplainsItself(t *testing.T) {
	p := exhausted(t, redispool.Config{AcquireTimeout: 120 * time.Millisecond})
	begun := time.Now()
	err := p.Client().Get(t.Context(), "a").Err()
	took := time.Since(begun)
	var acquire *poolkeeper.AcquireError
	if !errors.As(err, &acquire) || !errors.Is(err, redis.ErrPoolTimeout) {
		t.Fatalf("GET = %v, want an AcquireError that wraps redis.ErrPoolTimeout", err)
	}
	if acquire.Max != 2 || acquire.InUse != 2 || len(acquire.Oldest) != 2 {
		t.Errorf("%+v", acquire)
	}
	for _, want := range []string{`acquire from "cache": 2 of 2 in use`, "oldest conn for", "redispool_test.exhausted (acquire_test.go:", "AcquireTimeout of 120ms is over"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if took < 100*time.Millisecond || acquire.Waited < 100*time.Millisecond {
		t.Errorf("it took %s, of which it says to have waited %s", took, acquire.Waited)
	}
	for _, is := range []error{poolkeeper.ErrAcquireTimeout, context.DeadlineExceeded} {
		if !errors.Is(err, is) {
			t.Errorf("%v is not %v", err, is)
		}
	}
	if k := health.Classify(err).Kind; k != health.KindPoolExhausted {
		t.Errorf("classified as %q", k)
	}
	if n := p.Stats().AcquireTimeouts; n != 1 { // callers, not attempts
		t.Errorf("%d acquire timeouts counted", n)
	}
}

func TestPipelineThatGetsNoConnectionTellsEachCommand(t *testing.T) {
	p := exhausted(t, redispool.Config{AcquireTimeout: 20 * time.Millisecond})
	pipe := p.Client().Pipeline()
	a, b := pipe.Get(t.Context(), "a"), pipe.Get(t.Context(), "b")
	_, err := pipe.Exec(t.Context())
	for _, e := range []error{err, a.Err(), b.Err()} {
		if _, ok := errors.AsType[*poolkeeper.AcquireError](e); !ok {
			t.Errorf("%v, want an AcquireError", e)
		}
	}
}

func TestCallersDeadlineWhileWaitingIsExplained(t *testing.T) {
	p := exhausted(t, redispool.Config{AcquireTimeout: poolkeeper.Off})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := p.Client().Get(ctx, "a").Err()
	var acquire *poolkeeper.AcquireError
	if !errors.As(err, &acquire) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("GET = %v, want an AcquireError that wraps context.DeadlineExceeded", err)
	}
	if strings.Contains(err.Error(), "AcquireTimeout") || errors.Is(err, redis.ErrPoolTimeout) || !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
		t.Errorf("%q names a limit that is off, or matches the wrong sentinels", err)
	}
}

func TestWaitersAreCountedAndServed(t *testing.T) {
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 1})
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := p.Client().Ping(within(t, patience)).Err(); err != nil {
				t.Errorf("a waiter: %v", err)
			}
		})
	}
	eventually(t, "five wait", func() bool { return p.Stats().Waiting == 5 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	s := p.Stats()
	if s.Waiting != 0 || s.WaitCount < 5 || s.WaitDuration <= 0 || s.Open != 1 || s.Max != 1 {
		t.Errorf("%+v", s)
	}
}

// A context bounds the read of a reply, which go-redis by itself does not let it.
func TestContextBoundsARead(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Freeze(t)
	defer srv.Thaw(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := p.Client().Ping(ctx).Err()
	if err == nil || time.Since(begun) > 2*time.Second {
		t.Errorf("PING = %v after %s", err, time.Since(begun))
	}
}

// Callers are held while the server refuses. If a caller's own context ends meanwhile, its error
// says what it was waiting for.
func TestCallerWhoGivesUpOnARefusingServerIsToldSo(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + freeAddr(t), Name: "cache", Start: poolkeeper.StartDegraded, FailFastAfter: poolkeeper.Off})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := p.Client().Get(ctx, "a").Err()
	acquire, ok := errors.AsType[*poolkeeper.AcquireError](err)
	if !ok || acquire.DialErr == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("GET = %v, want an AcquireError with the last dial", err)
	}
	if k := redispool.Classify(err).Kind; k != health.KindRefused || health.Classify(err).Kind != k {
		t.Errorf("classified as %q", k)
	}
}
