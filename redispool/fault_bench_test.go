package redispool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// span is d when measuring, and short otherwise.
func span(d time.Duration) time.Duration {
	if testkit.Measuring() {
		return d
	}
	return d / 20
}

// fault is something that happens to a server, or on the way to it, under load.
type fault struct {
	name    string
	direct  bool // clients go to the server itself
	prepare func(tb testing.TB, srv *testserver.Server, px *testkit.Proxy) (happens func())
}

//nolint:thelper // each is what happens in one benchmark
var faults = []fault{
	// The proxy would accept what the server refuses.
	{"kill", true, func(tb testing.TB, srv *testserver.Server, _ *testkit.Proxy) func() {
		return func() { srv.Kill(tb); sleep(span(2 * time.Second)); srv.Restart(tb) }
	}},
	{"freeze", false, func(tb testing.TB, srv *testserver.Server, _ *testkit.Proxy) func() {
		return func() { srv.Freeze(tb); sleep(span(3 * time.Second)); srv.Thaw(tb) }
	}},
	{"client kill", false, func(tb testing.TB, srv *testserver.Server, _ *testkit.Proxy) func() {
		look := admin(tb, srv.Addr())
		return func() {
			if err := look.ClientKillByFilter(tb.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				tb.Error(err)
			}
		}
	}},
	{"black hole", false, func(_ testing.TB, _ *testserver.Server, px *testkit.Proxy) func() {
		return func() { px.BlackHole() }
	}},
	{"vanish", false, func(_ testing.TB, srv *testserver.Server, px *testkit.Proxy) func() {
		return func() { px.BlackHole(); px.Mute(true); sleep(span(2 * time.Second)); px.Point(srv.Addr()) }
	}},
	{"demote", false, func(tb testing.TB, srv *testserver.Server, px *testkit.Proxy) func() {
		look, other := admin(tb, srv.Addr()), testserver.Redis(tb)
		return func() {
			px.Point(other.Addr())
			if err := look.ReplicaOf(tb.Context(), "127.0.0.1", other.Port()).Err(); err != nil {
				tb.Error(err)
			}
		}
	}},
}

// variant is a client as it is put through a fault.
type variant struct {
	name             string
	managed          bool
	context, noRetry bool // go-redis' ContextTimeoutEnabled, which a managed pool has always; MaxRetries -1
}

func variants() []variant {
	if !testkit.Measuring() {
		return []variant{{name: "managed", managed: true}}
	}
	return []variant{
		{name: "raw"},
		{name: "raw-context", context: true},
		{name: "managed", managed: true},
		{name: "raw-context-noretry", context: true, noRetry: true},
		{name: "managed-noretry", managed: true, noRetry: true},
	}
}

func (v variant) retries() int {
	if v.noRetry {
		return -1
	}
	return 0 // go-redis' default
}

func (v variant) client(tb testing.TB, addr string, conns int) redis.UniversalClient {
	tb.Helper()
	if v.managed {
		return started(tb, redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{addr}, MaxRetries: v.retries()}, MaxOpen: conns,
		}).Client()
	}
	c := redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: conns, MaxRetries: v.retries(), ContextTimeoutEnabled: v.context,
	})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// BenchmarkFaults is the fault table: for each fault commands failed, those of them begun after the
// server was back, and the time from then to the first success (negative: there was none), raw
// beside managed.
func BenchmarkFaults(b *testing.B) {
	for _, f := range faults {
		for _, conns := range []int{8, 40} {
			if conns > 8 && !testkit.Measuring() {
				continue
			}
			for _, v := range variants() {
				b.Run(fmt.Sprintf("%s/%d/%s", f.name, conns, v.name), func(b *testing.B) {
					var all []outage
					for b.Loop() {
						srv := testserver.Redis(b)
						px := testkit.NewProxy(b, srv.Addr())
						addr := px.Addr()
						if f.direct {
							addr = srv.Addr()
						}
						c := v.client(b, addr, conns)
						together(b, admin(b, srv.Addr()), c, conns)
						all = append(all, endure(b, c, span(4*time.Second), f.prepare(b, srv, px)))
					}
					reportOutages(b, all)
				})
			}
		}
	}
}

// reportOutages reports the mean of the failures, and the longest wait.
func reportOutages(b *testing.B, all []outage) {
	b.Helper()
	var failed, late int
	first := time.Duration(0)
	for _, o := range all {
		failed, late = failed+o.failed, late+o.late
		if o.first < 0 || first < 0 {
			first = -time.Millisecond
			continue
		}
		first = max(first, o.first)
	}
	n := float64(len(all))
	b.ReportMetric(float64(failed)/n, "failed")
	b.ReportMetric(float64(late)/n, "late")
	b.ReportMetric(float64(first.Microseconds())/1000, "first-ms")
	b.ReportMetric(0, "ns/op") // of the scenario: it says nothing
}
