package redispool_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// isolating is quick, so that a test sees the whole of it.
func isolating() poolkeeper.Isolation {
	return poolkeeper.Isolation{
		MinScore: 75, After: 600 * time.Millisecond, Retry: 300 * time.Millisecond, MaxRetry: 300 * time.Millisecond,
		FastLatency: 20 * time.Millisecond, TrialShare: 0.1,
	}
}

// behind puts a proxy in front of a node, and has the Cluster announce it as the node's address.
func (k *cluster) behind(t *testing.T, node int) *testkit.Proxy {
	t.Helper()
	p := testkit.NewProxy(t, k.nodes[node].Addr())
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	do(t, k.looks[node], "config set cluster-announce-port "+port)
	eventually(t, "all nodes know the address", func() bool {
		for _, look := range k.looks {
			text, err := look.ClusterNodes(t.Context()).Result()
			if err != nil || !strings.Contains(text, ":"+port+"@") {
				return false
			}
		}
		return true
	})
	return p
}

// readers reads from several goroutines until the test ends, and counts what failed.
func readers(t *testing.T, c redis.UniversalClient, keys ...string) (failed *atomic.Int64) {
	t.Helper()
	failed = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := c.Get(ctx, keys[i%len(keys)]).Err(); err != nil && err != redis.Nil && ctx.Err() == nil { //nolint:errorlint // as go-redis returns it
					failed.Add(1)
				}
				<-time.After(time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return failed
}

func member(t *testing.T, p *redispool.Pool, addr string) poolkeeper.MemberStats {
	t.Helper()
	all := p.Stats().Members
	at := slices.IndexFunc(all, func(m poolkeeper.MemberStats) bool { return m.Name == addr })
	if at < 0 {
		return poolkeeper.MemberStats{}
	}
	return all[at]
}

// reads returns how many GETs a node has had, by its own count.
func reads(t *testing.T, look *redis.Client) int {
	t.Helper()
	info, err := look.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "cmdstat_get:calls=")
	n := 0
	for _, digit := range rest {
		if digit < '0' || digit > '9' {
			break
		}
		n = 10*n + int(digit-'0')
	}
	return n
}

// The network to one of two replicas becomes slow. Its reads go to the other one, until it is quick
// again. When both are slow, both serve.
func TestReadsLeaveASlowReplicaOfAClusterAndReturn(t *testing.T) { // INV-16
	testkit.Slow(t)
	for name, options := range map[string]func(*redis.UniversalOptions){
		"ReadOnly":      func(o *redis.UniversalOptions) { o.ReadOnly = true },
		"RouteRandomly": func(o *redis.UniversalOptions) { o.RouteRandomly = true },
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t, 1, 2)
			slow, other := k.behind(t, 1), k.behind(t, 2)
			o := k.options()
			options(o)
			var log testkit.Log
			p := started(t, redispool.Config{Options: o, MaxOpen: 20, Isolation: isolating(), Logger: log.Logger()})
			failed := readers(t, p.Client(), "a", "b", "c", "d")
			eventually(t, "both serve", func() bool {
				a, b := member(t, p, slow.Addr()), member(t, p, other.Addr())
				return a.HasScore && a.InRotation && b.HasScore && b.InRotation
			})

			slow.DelayAll(100 * time.Millisecond)
			var m poolkeeper.MemberStats
			eventually(t, "it is isolated, and gets no reads", func() bool {
				m = member(t, p, slow.Addr())
				if m.State != "isolated" || m.InRotation {
					return false
				}
				mine, others := reads(t, k.looks[1]), reads(t, k.looks[2])
				for reads(t, k.looks[2]) < others+50 {
					<-time.After(time.Millisecond)
				}
				return reads(t, k.looks[1]) == mine
			})
			if !m.Isolated || !m.HasScore || m.Why == "" || m.NextTrial.IsZero() || m.Primary {
				t.Errorf("%+v", m)
			}
			if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
				t.Errorf("a write: %v", err)
			}
			c, ok := p.Client().(*redis.ClusterClient)
			if !ok {
				t.Fatal("no ClusterClient")
			}
			var replicas atomic.Int64
			slots, err := c.ClusterSlots(t.Context()).Result() //nolint:staticcheck // what go-redis itself asks for
			if err != nil || len(slots) != 1 || len(slots[0].Nodes) != 3 {
				t.Errorf("a caller that asks for the slots gets %+v, %v", slots, err)
			}
			err = c.ForEachSlave(t.Context(), func(ctx context.Context, n *redis.Client) error {
				replicas.Add(1)
				return n.Ping(ctx).Err()
			})
			if err != nil || replicas.Load() != 2 {
				t.Errorf("ForEachSlave visits %d of 2 replicas: %v", replicas.Load(), err)
			}

			slow.DelayAll(0)
			eventually(t, "it is tried and serves again", func() bool {
				m := member(t, p, slow.Addr())
				return m.State == "ready" && m.InRotation && strings.Contains(log.String(), "kind=member-back")
			})
			for _, kind := range []string{"member-isolated", "member-trial", "member-back"} {
				if want := "kind=" + kind + " node=" + slow.Addr(); !strings.Contains(log.String(), want) {
					t.Errorf("no %s in %s", want, log.String())
				}
			}
			if n := failed.Load(); n > 0 {
				t.Errorf("%d reads failed", n)
			}
			if err := p.Stop(within(t, patience)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReplicasOfAClusterThatAreAllSlowAllServe(t *testing.T) { // INV-16
	testkit.Slow(t)
	k := newCluster(t, 1, 2)
	proxies := []*testkit.Proxy{k.behind(t, 1), k.behind(t, 2)}
	o := k.options()
	o.ReadOnly = true
	var log testkit.Log
	p := started(t, redispool.Config{Options: o, MaxOpen: 20, Isolation: isolating(), Logger: log.Logger()})
	readers(t, p.Client(), "a", "b", "c", "d")
	for _, n := range proxies {
		n.DelayAll(100 * time.Millisecond)
	}
	for _, n := range proxies {
		eventually(t, "it has a score", func() bool { return member(t, p, n.Addr()).HasScore })
	}
	before := []int{reads(t, k.looks[1]), reads(t, k.looks[2])}
	for since := time.Now(); time.Since(since) < 5*isolating().After; {
		<-time.After(10 * time.Millisecond)
	}
	for i, n := range proxies {
		if m := member(t, p, n.Addr()); !m.InRotation || reads(t, k.looks[i+1]) == before[i] {
			t.Errorf("%+v", m)
		}
	}
	if strings.Contains(log.String(), "member-isolated") {
		t.Error(log.String())
	}
}

// The primary dies while its replica is isolated. The replica takes over, and gets the writes.
func TestIsolatedReplicaOfAClusterTakesOver(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 3, 2) // the replicas are those of the first and the second
	slow := k.behind(t, 3)
	o := k.options()
	o.Addrs = []string{k.nodes[1].Addr(), k.nodes[2].Addr()}
	o.RouteRandomly = true
	var log testkit.Log
	cfg := isolating()
	cfg.Retry, cfg.MaxRetry = time.Hour, time.Hour
	p := started(t, redispool.Config{Options: o, MaxOpen: 20, Isolation: cfg, Logger: log.Logger()})
	key := k.keyAt(t, 0)
	readers(t, p.Client(), key)
	slow.DelayAll(100 * time.Millisecond)
	eventually(t, "it is isolated", func() bool { m := member(t, p, slow.Addr()); return m.State == "isolated" && !m.InRotation })
	set := func() error { return p.Client().Set(within(t, 2*time.Second), key, "1", 0).Err() }
	if err := set(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica has it", func() bool {
		n, err := k.looks[3].DBSize(t.Context()).Result()
		return err == nil && n == 1
	})
	k.nodes[0].Kill(t)
	eventually(t, "the replica has taken over", func() bool {
		info, err := k.looks[3].Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	eventually(t, "writes go to it", func() bool { return set() == nil })
	if got, err := p.Client().Get(t.Context(), key).Result(); err != nil || got != "1" {
		t.Errorf("an acknowledged write is %q, %v", got, err)
	}
	eventually(t, "it counts as serving", func() bool { m := member(t, p, slow.Addr()); return !m.Isolated && m.State == "ready" && m.InRotation })
	if !strings.Contains(log.String(), "this node was isolated, and is a primary now") {
		t.Error(log.String())
	}
}

func TestReloadTurnsIsolationOfAClusterOnAndOff(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 1, 2)
	slow := k.behind(t, 1)
	cfg := redispool.Config{URL: "redis+cluster://" + k.nodes[0].Addr() + "?read_only=true", MaxOpen: 20, Logger: silent()}
	p := started(t, cfg)
	readers(t, p.Client(), "a", "b", "c", "d")
	slow.DelayAll(100 * time.Millisecond)
	eventually(t, "it is known", func() bool { return member(t, p, slow.Addr()).Name != "" })
	if m := member(t, p, slow.Addr()); m.HasScore {
		t.Errorf("off: %+v", m)
	}
	cfg.Isolation = isolating()
	changes, err := p.Plan(cfg)
	if err != nil || len(changes) != 1 || changes[0].Field != "Isolation" {
		t.Errorf("%+v, %v", changes, err)
	}
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is isolated", func() bool { m := member(t, p, slow.Addr()); return m.Isolated && !m.InRotation })
	cfg.Isolation = poolkeeper.Isolation{}
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	before := reads(t, k.looks[1])
	eventually(t, "it serves", func() bool { return reads(t, k.looks[1]) > before+20 })
	if m := member(t, p, slow.Addr()); m.HasScore || m.Isolated || !m.InRotation {
		t.Errorf("off again: %+v", m)
	}
}

// Without slots there is nothing to isolate. The pool reports it, once.
func TestNodesThatAreNoClusterAreReportedAsNotIsolated(t *testing.T) {
	s := testserver.Redis(t)
	var log testkit.Log
	p := started(t, redispool.Config{
		URL: "redis+cluster://" + s.Addr() + "?read_only=true", Isolation: isolating(), Start: poolkeeper.StartDegraded, Logger: log.Logger(),
	})
	const want = "no replica can be isolated"
	eventually(t, "it is reported", func() bool {
		_ = p.Client().Get(t.Context(), "a").Err()
		return strings.Contains(log.String(), want)
	})
	for since := time.Now(); time.Since(since) < isolating().After; {
		_ = p.Client().Get(t.Context(), "a").Err()
	}
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("reported %d times", n)
	}
}

func TestIsolationNeedsReadsFromReplicas(t *testing.T) {
	on := poolkeeper.Isolation{MinScore: 75}
	for _, c := range []redispool.Config{
		{URL: "redis://127.0.0.1:1", Isolation: on},
		{URL: "redis+cluster://127.0.0.1:1", Isolation: on},
		{Options: &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true}, Isolation: on},
		{Options: &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, MasterName: "shop", ReadOnly: true}, Isolation: on},
	} {
		const want = "redispool: Isolation.MinScore is 75; it must be 0 (off) unless the pool is a Cluster with reads from replicas"
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	for _, parameter := range []string{"read_only", "route_by_latency", "route_randomly"} {
		c := redispool.Config{URL: "redis+cluster://127.0.0.1:1?" + parameter + "=true", Isolation: on}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	err := redispool.Config{URL: "redis+cluster://127.0.0.1:1?read_only=true", Isolation: poolkeeper.Isolation{MinScore: 101, MinServing: -1}}.Validate()
	for _, want := range []string{"redispool: Isolation.MinScore is 101", "redispool: Isolation.MinServing is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// The tests of a Cluster hold with isolation too, but for those that need go-redis to
// write and read at the primary, or reload the pool.
func TestClusterWithIsolationDoesWhatItDoesWithout(t *testing.T) {
	testkit.Slow(t)
	withIsolation = true
	defer func() { withIsolation = false }()
	for name, test := range map[string]func(*testing.T){
		"eviction and drain":   TestClusterIsEvictedPerNodeAndDrained,
		"check":                TestClusterCheck,
		"a replica is missing": TestClusterWithoutAReplicaIsDegraded,
		"failover":             TestClusterFailoverIsFollowed,
		"a node joins":         TestNodeThatJoinsTheClusterIsLookedAfter,
		"a node leaves":        TestNodeThatLeavesTheClusterIsForgotten,
		"a node is silent":     TestSilentNodeOfAClusterIsNamedAlone,
		"a node is down":       TestANodeOfAClusterIsDownByItself,
		"pause":                TestClusterIsPausedAtItsDoor,
		"watch":                TestWatchOnAClusterWaitsOutAPause,
		"TLS":                  TestClusterBehindMutualTLSIsManagedAndRenewed,
		"options":              TestClusterShowsTheUsersOptions,
	} {
		t.Run(name, test)
	}
}
