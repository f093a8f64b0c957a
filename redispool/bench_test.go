package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// pair returns a raw client with go-redis' defaults and a managed one, started, on the same server.
func pair(tb testing.TB) (raw, managed redis.UniversalClient) {
	tb.Helper()
	srv := testserver.SharedRedis(tb)
	o, err := redis.ParseURL(srv.URL())
	if err != nil {
		tb.Fatal(err)
	}
	r := redis.NewClient(o)
	tb.Cleanup(func() {
		if cerr := r.Close(); cerr != nil {
			tb.Error(cerr)
		}
	})
	p, err := redispool.New(redispool.Config{URL: srv.URL()})
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
	if err := r.Set(tb.Context(), "key", "value", 0).Err(); err != nil {
		tb.Fatal(err)
	}
	return r, p.Client()
}

// work is what is compared.
var work = []struct {
	name string
	do   func(ctx context.Context, c redis.UniversalClient) error
}{
	{"GET", func(ctx context.Context, c redis.UniversalClient) error { return c.Get(ctx, "key").Err() }},
	{"SET", func(ctx context.Context, c redis.UniversalClient) error { return c.Set(ctx, "key", "value", 0).Err() }},
	{"pipeline10", func(ctx context.Context, c redis.UniversalClient) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 10 {
				p.Get(ctx, "key")
			}
			return nil
		})
		return err
	}},
}

// BenchmarkOverhead runs raw and managed in turns and reports the ratio of their times with the upper bound of its 95 %
// interval over the pairs.
func BenchmarkOverhead(b *testing.B) {
	for _, w := range work {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/callers=%d", w.name, callers), func(b *testing.B) {
				raw, managed := pair(b)
				ops := b.N/callers + 1
				run := func(c redis.UniversalClient) time.Duration {
					start := time.Now()
					var wg sync.WaitGroup
					for range callers {
						wg.Go(func() {
							for range ops {
								if err := w.do(b.Context(), c); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
					return time.Since(start)
				}
				run(raw)
				run(managed)
				const pairs = 20
				var logs []float64
				b.ResetTimer()
				for i := range pairs {
					var tr, tm time.Duration
					if i%2 == 0 { // whoever is second finds a warmer machine
						tr, tm = run(raw), run(managed)
					} else {
						tm, tr = run(managed), run(raw)
					}
					logs = append(logs, math.Log(tm.Seconds()/tr.Seconds()))
				}
				ratio, upper := meanAndUpper(logs)
				b.ReportMetric(ratio, "ratio")
				b.ReportMetric(upper, "ratio_upper95")
			})
		}
	}
}

// meanAndUpper returns the geometric mean of the ratios whose logarithms are given, and the upper bound of its 95 %
// interval by Student's t.
func meanAndUpper(logs []float64) (mean, upper float64) {
	const t19 = 2.093 // two-sided 95 %, 19 degrees of freedom
	n := float64(len(logs))
	var sum, squares float64
	for _, l := range logs {
		sum += l
	}
	m := sum / n
	for _, l := range logs {
		squares += (l - m) * (l - m)
	}
	return math.Exp(m), math.Exp(m + t19*math.Sqrt(squares/(n-1)/n))
}

// TestManagedCommandsAllocateNoMore compares allocations, with leak tracking on.
func TestManagedCommandsAllocateNoMore(t *testing.T) {
	raw, managed := pair(t)
	for _, w := range work {
		count := func(c redis.UniversalClient) float64 {
			return testing.AllocsPerRun(200, func() {
				if err := w.do(t.Context(), c); err != nil && !errors.Is(err, redis.Nil) {
					t.Error(err)
				}
			})
		}
		if r, m := count(raw), count(managed); m > r {
			t.Errorf("%s: managed allocates %v times, raw %v", w.name, m, r)
		}
	}
}
