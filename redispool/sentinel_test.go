package redispool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// sentinels is a real set: a primary, a replica, and three sentinels that watch them as "shop".
type sentinels struct {
	primary, replica *testserver.Server
	addrs            []string // of the sentinels, for clients
	plain            []string // where they speak plain text
	stops            []func() // that end them
}

// stopSentinels ends all of them.
func (s *sentinels) stopSentinels() {
	for _, stop := range s.stops {
		stop()
	}
}

func newSentinels(tb testing.TB) *sentinels {
	tb.Helper()
	s := &sentinels{primary: testserver.Redis(tb)}
	s.replica = testserver.Redis(tb, replicaOf(s.primary.Port())...)
	for range 3 {
		addr, stop := startSentinel(tb, s.primary.Port())
		s.addrs, s.stops = append(s.addrs, addr), append(s.stops, stop)
	}
	s.plain = s.addrs
	s.awaitAgreement(tb)
	return s
}

// newSecureSentinels starts one whose servers and sentinels all speak TLS to each other, and to
// clients, whose certificates they want to see.
func newSecureSentinels(tb testing.TB, k *pki) *sentinels {
	tb.Helper()
	secure, second := freeAddr(tb), freeAddr(tb)
	s := &sentinels{primary: testserver.Redis(tb, k.server(tb, secure, "server1")...)}
	s.replica = testserver.Redis(tb, append(k.server(tb, second, "server1"), replicaOf(portIn(tb, secure))...)...)
	for range 3 {
		addr := freeAddr(tb)
		plain, stop := startSentinel(tb, portIn(tb, secure), k.server(tb, addr, "sentinel")...)
		s.addrs, s.plain, s.stops = append(s.addrs, addr), append(s.plain, plain), append(s.stops, stop)
	}
	s.awaitAgreement(tb)
	return s
}

func replicaOf(port string) []string {
	return []string{"--replicaof", "127.0.0.1 " + port, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
}

// awaitAgreement waits until the sentinels know each other and the replica.
func (s *sentinels) awaitAgreement(tb testing.TB) {
	tb.Helper()
	for _, addr := range s.plain {
		look := admin(tb, addr)
		eventually(tb, "each sentinel knows all", func() bool {
			state, err := look.Do(within(tb, patience), "sentinel", "master", "shop").Text()
			if err == nil {
				return state != ""
			}
			m, err := look.Do(within(tb, patience), "sentinel", "master", "shop").StringSlice()
			return err == nil && field(m, "num-slaves") == "1" && field(m, "num-other-sentinels") == "2"
		})
	}
}

func field(pairs []string, name string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == name {
			return pairs[i+1]
		}
	}
	return ""
}

// startSentinel runs one until the test ends or stop is called.
func startSentinel(tb testing.TB, primaryPort string, args ...string) (addr string, stop func()) {
	tb.Helper()
	s := testserver.RedisSentinel(tb, "shop", primaryPort,
		[]string{"sentinel down-after-milliseconds shop 500", "sentinel failover-timeout shop 3000"}, args...)
	return s.Addr(), func() { s.Kill(tb) }
}

func (s *sentinels) url(parameters string) string {
	return "redis+sentinel://" + s.addrs[0] + "/0?master_name=shop&addr=" + s.addrs[1] + "&addr=" + s.addrs[2] + parameters
}

func TestSentinelPoolIsEvictedCheckedAndStopped(t *testing.T) {
	s := newSentinels(t)
	look := admin(t, s.primary.Addr())
	p := started(t, redispool.Config{
		URL: s.url("&client_name=managed"), MaxOpen: 30, MinIdle: 2,
		MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	if _, ok := p.Client().(*redis.Client); !ok {
		t.Fatalf("Client is a %T", p.Client())
	}
	together(t, look, p.Client(), 20)
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
	eventually(t, "the surplus is gone", func() bool { return p.Stats().Open == 2 })
	if n := clients(t, look)["managed"]; n != 3 {
		t.Errorf("the primary sees %d connections, want 2 and the check's", n)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	for _, addr := range append([]string{s.primary.Addr(), s.replica.Addr()}, s.addrs...) {
		l := admin(t, addr)
		eventually(t, "no connection is left at "+addr, func() bool { return clients(t, l)["managed"] == 0 })
	}
}

func TestSentinelFailoverIsFollowed(t *testing.T) {
	s := newSentinels(t)
	p := started(t, redispool.Config{URL: s.url(""), MaxOpen: 10, MinIdle: 2})
	if err := p.Client().Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replica := admin(t, s.replica.Addr())
	eventually(t, "the replica has the key", func() bool { return replica.Get(t.Context(), "a").Val() == "1" })
	s.primary.Kill(t)
	eventually(t, "writes go to the new primary", func() bool {
		return p.Client().Set(within(t, time.Second), "a", "2", 0).Err() == nil
	})
	if got := replica.Get(t.Context(), "a").Val(); got != "2" {
		t.Errorf("the new primary has %q", got)
	}
	eventually(t, "the check follows", func() bool { return p.Check(within(t, time.Second)) == nil })
	for _, a := range p.Settings() {
		if a.Key == "addresses" && !strings.Contains(a.Value.String(), s.addrs[0]) {
			t.Errorf("addresses: %v", a.Value)
		}
	}
}

func TestNoSentinelReachable(t *testing.T) {
	p := newPool(t, redispool.Config{URL: "redis+sentinel://" + freeAddr(t) + "?master_name=shop"})
	err := p.Start(within(t, patience))
	if err == nil || !strings.Contains(err.Error(), "sentinels") {
		t.Errorf("Start = %v", err)
	}
}
