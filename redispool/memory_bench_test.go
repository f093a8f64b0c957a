package redispool_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// footprint is the live heap, in bytes, that build leaves behind. What build returns is kept until
// then, and then let go.
func footprint(tb testing.TB, build func() (keep any)) float64 {
	tb.Helper()
	settled := func() float64 {
		var m runtime.MemStats
		for range 3 { // finalizers and pools take more than one
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := settled()
	keep := build()
	after := settled()
	runtime.KeepAlive(keep)
	return after - before
}

// BenchmarkMemoryEmpty reports what an empty client takes, and what management adds to it: as made,
// once started, and with the connection of the health check, which is counted with its buffers.
func BenchmarkMemoryEmpty(b *testing.B) {
	srv := testserver.SharedRedis(b)
	o, err := redis.ParseURL(srv.URL())
	if err != nil {
		b.Fatal(err)
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // as in a managed pool
	const many = 64                                                                                // for the mean: one is too small to be seen
	raw := func() any {
		var out [many]*redis.Client
		for i := range out {
			out[i] = redis.NewClient(o)
			b.Cleanup(func() { _ = out[i].Close() })
		}
		return out
	}
	managed := func(ready func(*redispool.Pool)) func() any {
		return func() any {
			var out [many]*redispool.Pool
			for i := range out {
				out[i] = newPool(b, redispool.Config{URL: srv.URL()})
				ready(out[i])
			}
			return out
		}
	}
	start := func(p *redispool.Pool) {
		if err := p.Start(within(b, patience)); err != nil {
			b.Fatal(err)
		}
	}
	footprint(b, raw) // what comes with the first of a process
	footprint(b, managed(start))
	for b.Loop() {
		r := footprint(b, raw) / many
		b.ReportMetric(r, "raw-B")
		b.ReportMetric(footprint(b, managed(func(*redispool.Pool) {}))/many-r, "new-extra-B")
		b.ReportMetric(footprint(b, managed(start))/many-r, "started-extra-B")
	}
	b.ReportMetric(0, "ns/op") // of the measurement: it says nothing
}

// BenchmarkMemoryPerConnection reports what each of 1,000 open connections takes, and what
// management adds to it.
func BenchmarkMemoryPerConnection(b *testing.B) {
	const conns = 1000
	srv := testserver.Redis(b)
	w := place{looks: []*redis.Client{admin(b, srv.Addr())}, keys: []string{"a"}}
	open := func(c redis.UniversalClient) float64 {
		w.burst(b, c, 1) // what comes with the first connection is not counted
		return footprint(b, func() any { w.burst(b, c, conns); return nil }) / (conns - 1)
	}
	measure := func(rawFirst bool) (raw, managed float64) {
		c := redis.NewClient(&redis.Options{Addr: srv.Addr(), PoolSize: conns})
		p := started(b, redispool.Config{URL: srv.URL(), MaxOpen: conns, MaxIdleTime: time.Hour})
		if rawFirst { // the first one also frees the rest of the last measurement
			raw, managed = open(c), open(p.Client())
		} else {
			managed, raw = open(p.Client()), open(c)
		}
		if err := c.Close(); err != nil {
			b.Error(err)
		}
		if err := p.Stop(within(b, patience)); err != nil {
			b.Error(err)
		}
		return raw, managed
	}
	measure(true) // the runtime keeps what it needs for so many goroutines
	for b.Loop() {
		var raws, extras []float64
		for i := range 6 { // the runtime itself comes and goes by some 100 B for each
			raw, managed := measure(i%2 == 0)
			raws, extras = append(raws, raw), append(extras, managed-raw)
		}
		raw, _ := paired.Median(raws)
		extra, _ := paired.Median(extras)
		b.ReportMetric(raw, "raw-B/conn")
		b.ReportMetric(extra, "extra-B/conn")
	}
	b.ReportMetric(0, "ns/op") // of the measurement: it says nothing
}
