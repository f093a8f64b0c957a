package redispool_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// end is a way to close surplus connections of a go-redis client with its public API alone:
// docs/adr/0006.
type end struct {
	name    string
	fifo    bool // go-redis hands out the connection that was idle for longest
	spare   int  // connections taken out first, the hottest where it is not fifo, and put back last
	managed bool // the pool's own way
}

var ends = []end{
	{name: "lifo-next"},
	{name: "lifo-spare-2-hottest", spare: 2},
	{name: "lifo-spare-5-hottest", spare: 5},
	{name: "fifo-next", fifo: true},
	{name: "managed", managed: true},
	{name: "managed-fifo", managed: true, fifo: true},
}

// closes closes n connections of c.
func (e end) closes(ctx context.Context, c *redis.Client, n int) error {
	for range e.spare {
		kept := c.Conn()
		defer func() { _ = kept.Close() }()
		if err := kept.Ping(ctx).Err(); err != nil {
			return err
		}
	}
	for range n {
		gone := c.EphemeralConn()
		err := gone.Ping(ctx).Err()
		_ = gone.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	endBurst = 100
	endMin   = 2 // of which light traffic needs none
	endKeep  = endMin + 3
)

// client returns a client, and what closes all but endKeep of its connections.
func (e end) client(b *testing.B, addr string, dials *atomic.Int64) (c redis.UniversalClient, closes func() error) {
	b.Helper()
	o := redis.UniversalOptions{
		Addrs: []string{addr}, ClientName: "raw", PoolFIFO: e.fifo,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	if e.managed {
		p := started(b, redispool.Config{
			Options: &o, MaxOpen: endBurst + 50, MinIdle: endMin, MaxIdleTime: span(5500 * time.Millisecond), EvictionInterval: 20 * time.Millisecond,
		})
		return p.Client(), func() error {
			// The measuring goroutine needs one more meanwhile.
			eventually(b, "the sweep", func() bool { return p.Stats().Open <= endKeep+1 })
			return nil
		}
	}
	o.PoolSize, o.ConnMaxIdleTime = endBurst+50, -1
	raw := redis.NewClient(o.Simple())
	b.Cleanup(func() {
		if err := raw.Close(); err != nil {
			b.Error(err)
		}
	})
	return raw, func() error { return e.closes(b.Context(), raw, endBurst-endKeep) }
}

// BenchmarkEvictionEnd compares the ways after a burst of 100, under light traffic that needs 3 and
// with 2 to be spared: dials caused, the slowest command meanwhile, and how long the survivor that
// was used last longest ago has been silent.
func BenchmarkEvictionEnd(b *testing.B) {
	for _, e := range ends {
		b.Run(e.name, func(b *testing.B) {
			var slowest time.Duration
			var dials atomic.Int64
			var silent, dialed int64
			for b.Loop() {
				w := oneNode(b)
				c, closes := e.client(b, w.addrs[0], &dials)
				w.burst(b, c, endBurst)
				carriers := w.carriers(b, "raw")
				tr := lightTraffic(b, c, 3, w.keys...)
				sleep(span(5 * time.Second))
				before := dials.Load()
				slowest = max(slowest, slowestDuring(b, c, func() error {
					sleep(span(time.Second)) // as long for all, for a machine has slow moments of its own
					return closes()
				}))
				sleep(span(2 * time.Second))
				dialed += dials.Load() - before
				silent = max(silent, int64(w.oldest(b, "raw", carriers)))
				tr.end()
			}
			b.ReportMetric(float64(dialed)/float64(b.N), "dials")
			b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
			b.ReportMetric(float64(silent), "silent-s")
			b.ReportMetric(0, "ns/op") // of the scenario: it says nothing
		})
	}
}

// slowestDuring sends commands, one after the other, until happens has returned, and returns the
// time of the slowest.
func slowestDuring(b *testing.B, c redis.UniversalClient, happens func() error) time.Duration {
	b.Helper()
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(over)
		if err := happens(); err != nil {
			b.Error(err)
		}
	})
	defer wg.Wait()
	var slowest time.Duration
	for {
		begun := time.Now()
		if err := c.Incr(b.Context(), "a").Err(); err != nil {
			b.Error(err)
		}
		slowest = max(slowest, time.Since(begun))
		select {
		case <-over:
			return slowest
		default:
		}
	}
}
