package redispool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A burst is far more callers at once than a pool can serve before their deadlines.
const (
	burstCallers  = 500
	burstOpen     = 10
	burstDeadline = 100 * time.Millisecond
	burstRounds   = 5
)

// BenchmarkBurst counts how many of 500 callers with 10 connections and 100 ms get an answer over a
// link with a round trip of 10 ms, raw beside managed in turns: POOLKEEPER_MEASURE=1 go test -bench
// Burst -benchtime 1x -run - ./redispool.
func BenchmarkBurst(b *testing.B) {
	way := testkit.NewProxy(b, testserver.Redis(b).Addr())
	way.Delay(10 * time.Millisecond)
	for b.Loop() {
		clients := []redis.UniversalClient{
			rawClient(b, &redis.Options{Addr: way.Addr(), PoolSize: burstOpen, ContextTimeoutEnabled: true}),
			started(b, redispool.Config{URL: "redis://" + way.Addr(), MaxOpen: burstOpen}).Client(),
		}
		counts := make([]int64, len(clients))
		for i := range 2 * burstRounds {
			which := (i + i/2) % 2 // raw, managed, managed, raw, …
			counts[which] += overload(b.Context(), clients[which])
			<-time.After(300 * time.Millisecond)
		}
		b.ReportMetric(float64(counts[0]), "raw")
		b.ReportMetric(float64(counts[1]), "managed")
		b.ReportMetric(float64(counts[1])/float64(counts[0]), "ratio")
		b.ReportMetric(0, "ns/op")
	}
}

// overload returns how many callers of a burst got an answer.
func overload(ctx context.Context, c redis.UniversalClient) int64 {
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range burstCallers {
		wg.Go(func() {
			in, cancel := context.WithTimeout(ctx, burstDeadline)
			defer cancel()
			if c.Ping(in).Err() == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return ok.Load()
}
