package redispool_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// interruption is what callers under load have seen of a client's end.
type interruption struct {
	done    int64 // commands that succeeded
	refused int64 // that the pool has not let in
	failed  int64 // that failed in any other way
	lost    int64 // that the server has carried out and the caller was told have failed
}

// interrupt has 64 callers write as fast as they can over 32 connections, so that half of them are
// in flight and half wait for a connection, and calls end in the middle of it. Every other write
// stays on the server for 10 ms.
func interrupt(tb testing.TB, look *redis.Client, c redis.UniversalClient, end func()) interruption {
	tb.Helper()
	const callers, warm = 64, 400
	ctx := within(tb, patience)
	if err := look.Del(ctx, "writes").Err(); err != nil {
		tb.Fatal(err)
	}
	var done, refusals, failed atomic.Int64
	midst := make(chan struct{})
	write := func(slow bool) error {
		if !slow {
			return c.Incr(ctx, "writes").Err()
		}
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "writes")
			p.Do(ctx, "wait", 1, 10) // ms, for a replica that is not there
			return nil
		})
		return err
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for {
				switch err := write(i%2 == 0); {
				case err == nil:
					if done.Add(1) == warm {
						close(midst)
					}
					continue
				case refused(err):
					refusals.Add(1)
				default:
					failed.Add(1)
				}
				return
			}
		})
	}
	select {
	case <-midst:
	case <-ctx.Done():
		tb.Error("the load has not come up")
	}
	end()
	wg.Wait()
	total, err := look.Get(ctx, "writes").Int64()
	if err != nil {
		tb.Fatal(err)
	}
	return interruption{done: done.Load(), refused: refusals.Load(), failed: failed.Load(), lost: total - done.Load()}
}

const interruptedConns = 32

// interruptManaged stops a pool of its own.
func interruptManaged(tb testing.TB, addr string, look *redis.Client) interruption {
	tb.Helper()
	p := started(tb, redispool.Config{URL: "redis://" + addr, MaxOpen: interruptedConns})
	return interrupt(tb, look, p.Client(), func() {
		if err := p.Stop(within(tb, patience)); err != nil {
			tb.Errorf("Stop: %v", err)
		}
	})
}

// Whatever was let in succeeds, whether it was in flight or waited for a connection, and nothing
// else is carried out.
func TestStopUnderLoadLosesNothing(t *testing.T) { // INV-8
	srv := testserver.Redis(t, "--hz", "200") // so that it ends waits in time
	look := admin(t, srv.Addr())
	for round := range 50 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			got := interruptManaged(t, srv.Addr(), look)
			if got.failed > 0 || got.lost != 0 || got.refused != 64 {
				t.Errorf("%+v; want none failed, none lost, and each of 64 callers refused once", got)
			}
		})
	}
}

// BenchmarkStopUnderLoad reports, for each time that a client is ended under load, how many writes
// failed, the refused not counted, and how many of these the server has carried out; raw Close
// beside Stop. The table is of -benchtime 50x.
func BenchmarkStopUnderLoad(b *testing.B) {
	srv := testserver.Redis(b, "--hz", "200")
	look := admin(b, srv.Addr())
	report := func(b *testing.B, once func() interruption) {
		b.Helper()
		var sum interruption
		for b.Loop() {
			got := once()
			sum.failed += got.failed
			sum.lost += got.lost
		}
		b.ReportMetric(float64(sum.failed)/float64(b.N), "failed/round")
		b.ReportMetric(float64(sum.lost)/float64(b.N), "lost/round")
		b.ReportMetric(0, "ns/op") // the load's length: it says nothing
	}
	b.Run("raw", func(b *testing.B) {
		report(b, func() interruption {
			c := redis.NewClient(&redis.Options{Addr: srv.Addr(), PoolSize: interruptedConns})
			return interrupt(b, look, c, func() {
				if err := c.Close(); err != nil {
					b.Error(err)
				}
			})
		})
	})
	b.Run("managed", func(b *testing.B) {
		report(b, func() interruption { return interruptManaged(b, srv.Addr(), look) })
	})
}
