package redispool_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// BenchmarkActiveQueue compares GETs on a pool whose MaxOpen is below its MaxOpenCeiling, so that
// each command passes the queue, with GETs on one without. Both are managed.
func BenchmarkActiveQueue(b *testing.B) {
	srv := testserver.SharedRedis(b)
	open := started(b, redispool.Config{URL: srv.URL(), MaxOpen: 32})
	active := started(b, redispool.Config{URL: srv.URL(), MaxOpen: 32, MaxOpenCeiling: 64})
	get := func(c redis.UniversalClient) func() error {
		return func() error {
			if err := c.Get(b.Context(), "none").Err(); err != redis.Nil { //nolint:errorlint // bare
				return err
			}
			return nil
		}
	}
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			without, with := get(open.Client()), get(active.Client())
			less, more := allocations(b, without), allocations(b, with)
			paired.Run(b, callers, without, with)
			b.ReportMetric(more-less, "extra-allocs")
		})
	}
}

// BenchmarkPause is a Pause, callers that come while it lasts, and Resume: how long after Resume
// the last of them is served, what that is for each, and how long Pause itself takes on a pool at
// rest with its connections open.
func BenchmarkPause(b *testing.B) {
	srv := testserver.SharedRedis(b)
	for _, callers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			p := started(b, redispool.Config{URL: srv.URL(), MaxOpen: 32, AcquireTimeout: time.Minute})
			var toPause, toServe time.Duration
			rounds := 0
			for b.Loop() {
				begun := time.Now()
				if err := p.Pause(b.Context()); err != nil {
					b.Fatal(err)
				}
				toPause += time.Since(begun)
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						if err := p.Client().Ping(b.Context()).Err(); err != nil {
							b.Error(err)
						}
					})
				}
				eventually(b, "all wait", func() bool { return p.Stats().Waiting == callers })
				begun = time.Now()
				p.Resume()
				wg.Wait()
				toServe += time.Since(begun)
				rounds++
			}
			b.ReportMetric(0, "ns/op") // of a round, most of it spent gathering the callers
			b.ReportMetric(float64(toPause.Microseconds())/float64(rounds), "µs/pause")
			b.ReportMetric(float64(toServe.Microseconds())/float64(rounds), "µs/resume")
			b.ReportMetric(float64(toServe.Microseconds())/float64(rounds*callers), "µs/caller")
		})
	}
}
