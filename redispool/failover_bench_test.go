package redispool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// byName returns a client that asks the sentinels where the primary is.
func (v variant) byName(tb testing.TB, s *sentinels, conns int) redis.UniversalClient {
	tb.Helper()
	if v.managed {
		return started(tb, redispool.Config{
			Options: &redis.UniversalOptions{Addrs: s.addrs, MasterName: "shop", MaxRetries: v.retries()}, MaxOpen: conns,
		}).Client()
	}
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		SentinelAddrs: s.addrs, MasterName: "shop", PoolSize: conns, MaxRetries: v.retries(), ContextTimeoutEnabled: v.context,
	})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// promoted waits until the replica has become the primary.
func (s *sentinels) promoted(tb testing.TB) {
	tb.Helper()
	look := admin(tb, s.replica.Addr())
	eventually(tb, "the replica is the primary", func() bool {
		role, err := look.Do(within(tb, time.Second), "role").Slice()
		return err == nil && len(role) > 0 && role[0] == "master"
	})
}

// failovers are the two ways to a new primary: the old one dies, or an operator asks for one.
var failovers = []struct {
	name   string
	happen func(tb testing.TB, s *sentinels)
}{
	{"killed", func(tb testing.TB, s *sentinels) {
		tb.Helper()
		s.primary.Kill(tb)
		s.promoted(tb)
	}},
	{"planned", func(tb testing.TB, s *sentinels) {
		tb.Helper()
		if err := admin(tb, s.addrs[0]).Do(within(tb, patience), "sentinel", "failover", "shop").Err(); err != nil {
			tb.Error(err)
		}
		s.promoted(tb)
	}},
}

// BenchmarkFailover has 64 callers write through a failover of a real Sentinel set, and reports
// what BenchmarkFaults does, raw beside managed, for callers with little and with much patience.
func BenchmarkFailover(b *testing.B) {
	const callers, conns = 64, 64
	for _, event := range failovers {
		for _, limit := range []time.Duration{500 * time.Millisecond, 5 * time.Second} {
			for _, v := range variants() {
				if !testkit.Measuring() && (event.name != "killed" || limit < time.Second) || !v.managed && !v.context {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/%s", event.name, limit, v.name), func(b *testing.B) {
					var all []outage
					for b.Loop() {
						s := newSentinels(b)
						c := v.byName(b, s, conns)
						together(b, admin(b, s.primary.Addr()), c, conns)
						l := load{workers: callers, pace: 20 * time.Millisecond, limit: limit}
						all = append(all, l.endure(b, c, span(4*time.Second), func() { event.happen(b, s) }))
					}
					reportOutages(b, all)
				})
			}
		}
	}
}
