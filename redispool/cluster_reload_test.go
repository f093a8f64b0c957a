package redispool_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// keyAt returns a key that is served by the node.
func (k *cluster) keyAt(t *testing.T, node int) string {
	t.Helper()
	for i := range 1000 {
		key := fmt.Sprint("key", i)
		slot, err := k.looks[0].ClusterKeySlot(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if int(slot)*k.primaries/16384 == node {
			return key
		}
	}
	t.Fatal("no key for the node")
	return ""
}

func TestReloadOfAClusterReachesEveryNodeAndThoseToCome(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 2, 0)
	for _, look := range k.looks {
		do(t, look, "acl setuser app on >one >two ~* &* +@all")
	}
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("app:one"))
	cfg := redispool.Config{
		URL:     "redis+cluster://" + k.nodes[0].Addr() + "?client_name=p&addr=" + k.nodes[1].Addr(),
		MaxOpen: 8, CredentialsFile: file, FileInterval: 20 * time.Millisecond, AcquireTimeout: patience, Logger: silent(),
	}
	p := started(t, cfg)
	here, there := k.keyAt(t, 0), k.keyAt(t, 1)
	wait := func(key string, n int) (served func()) {
		t.Helper()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if err := p.Client().BLPop(within(t, patience), 0, key).Err(); err != nil {
					t.Errorf("BLPOP: %v", err)
				}
			})
		}
		return func() {
			t.Helper()
			for range n {
				if err := p.Client().RPush(t.Context(), key, "item").Err(); err != nil {
					t.Error(err)
				}
			}
			wg.Wait()
		}
	}
	served := wait(here, 6)
	eventually(t, "six wait at the first node", func() bool { return blocked(t, k.looks[0]) == 6 })
	served()
	cfg.MaxOpen = 3
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three are left at the first node", func() bool { return clients(t, k.looks[0])["p"] <= 3+1 }) // and the check's
	served = wait(there, 2)                                                                                      // of three: one is left for RPUSH
	eventually(t, "two wait at the second node", func() bool { return blocked(t, k.looks[1]) == 2 })
	if err := p.Client().Get(t.Context(), here).Err(); err != redis.Nil { //nolint:errorlint // bare
		t.Errorf("GET = %v", err)
	}
	served()
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := p.Client().BLPop(ctx, 50*time.Millisecond, there).Err(); err != redis.Nil { //nolint:errorlint // bare
				t.Errorf("BLPOP = %v", err)
			}
			if n := clients(t, k.looks[1])["p"]; n > 3+1 {
				t.Errorf("%d connections at the second node", n)
			}
		})
	}
	wg.Wait()

	newest := []int64{latestID(t, k.looks[0]), latestID(t, k.looks[1])}
	write(t, file, []byte("app:two"))
	for i, look := range k.looks {
		eventually(t, "the old generation is gone", func() bool {
			for _, key := range []string{here, there} {
				if err := p.Client().Get(t.Context(), key).Err(); err != redis.Nil { //nolint:errorlint // bare
					t.Fatalf("GET = %v", err)
				}
			}
			return oldConns(t, look, newest[i]) == 0
		})
		do(t, look, "acl setuser app <one")
	}
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// A node that joins while the pool works is one of its nodes like the others.
func TestNodeThatJoinsTheClusterIsLookedAfter(t *testing.T) { // INV-7, INV-9
	testkit.Slow(t)
	k := newCluster(t, 2, 0)
	p := started(t, redispool.Config{
		Options: k.options(), MaxOpen: 10, MinIdle: 1, MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := p.Stats().Max

	_, bus, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	late := testserver.Redis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000")
	look := admin(t, late.Addr())
	id, err := look.Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	do(t, look, "cluster meet 127.0.0.1 "+k.nodes[0].Port()+" "+portOf(t, k.looks[0], "cluster-port"))
	slot, err := look.ClusterKeySlot(t.Context(), "late").Result()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all know each other", func() bool {
		for _, c := range []*redis.Client{look, k.looks[0], k.looks[1]} {
			info, ierr := c.ClusterInfo(t.Context()).Result()
			if ierr != nil || !strings.Contains(info, "cluster_known_nodes:3") || !strings.Contains(info, "cluster_state:ok") {
				return false
			}
		}
		return true
	})
	owner := k.looks[int(slot)*2/16384]
	ownerID, err := owner.Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	do(t, look, fmt.Sprint("cluster setslot ", slot, " importing ", ownerID)) // so that its claim counts more than the owner's
	do(t, look, fmt.Sprint("cluster setslot ", slot, " node ", id))
	do(t, owner, fmt.Sprint("cluster setslot ", slot, " node ", id))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := p.Client().BLPop(within(t, patience), 0, "late").Err(); err != nil {
				t.Errorf("BLPOP: %v", err)
			}
		})
	}
	eventually(t, "six wait at the new node", func() bool { return blocked(t, look) == 6 })
	if got := p.Stats().Max; got != before+10 {
		t.Errorf("Max is %d, want 10 more than %d", got, before)
	}
	for range 6 {
		if err := look.RPush(t.Context(), "late", "item").Err(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	eventually(t, "the surplus at the new node is gone, but for MinIdle", func() bool { return clients(t, look)["managed"] == 1 })
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if n := clients(t, look)["managed"]; n != 0 {
		t.Errorf("the new node still sees %d connections", n)
	}
}

// A node that leaves while the pool works: its slots go to another, its process ends, and a minute
// later go-redis closes its client. Callers that use other nodes do not notice, and nothing of it
// remains.
func TestNodeThatLeavesTheClusterIsForgotten(t *testing.T) { // INV-9
	testkit.Slow(t)
	k := newClusterOf(t, 3, 0, func() []string { return []string{"--cluster-require-full-coverage", "no"} })
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: k.options(), MaxOpen: 10, MinIdle: 2, MaxIdleTime: 300 * time.Millisecond,
		EvictionInterval: 20 * time.Millisecond, Logger: out.Logger(),
	})
	c, ok := p.Client().(*redis.ClusterClient)
	if !ok {
		t.Fatal("no ClusterClient")
	}
	stays, moves := k.keyAt(t, 0), k.keyAt(t, 2)
	var gone *redis.Client
	for _, key := range []string{stays, moves} {
		if err := c.Set(t.Context(), key, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	do(t, k.looks[2], "flushall") // a node does not give up slots that have keys
	err := c.ForEachMaster(t.Context(), func(_ context.Context, n *redis.Client) error {
		if n.Options().Addr == k.nodes[2].Addr() {
			gone = n
		}
		return nil
	})
	if err != nil || gone == nil {
		t.Fatal("no client for the node: ", err)
	}
	before := p.Stats().Max
	load := lightTraffic(t, c, 3, "{"+stays+"}n")

	const from, to = 2 * 16384 / 3, 16383
	id, err := k.looks[2].Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	do(t, k.looks[2], fmt.Sprint("cluster delslotsrange ", from, " ", to))
	eventually(t, "the first node has the slots", func() bool {
		for _, look := range k.looks[:2] {
			_ = look.Do(t.Context(), "cluster", "delslotsrange", from, to).Err() // until it is not told of the old owner any more
		}
		return k.looks[0].Do(t.Context(), "cluster", "addslotsrange", from, to).Err() == nil
	})
	k.nodes[2].Kill(t)
	for _, look := range k.looks[:2] {
		do(t, look, "cluster forget "+id)
	}
	eventually(t, "what has moved is found", func() bool { return c.Set(within(t, time.Second), moves, 2, 0).Err() == nil })
	if err := gone.Close(); err != nil { // as go-redis does
		t.Logf("closing the node's client: %v", err)
	}
	eventually(t, "the check passes", func() bool { return p.Check(within(t, time.Second)) == nil })
	if got := p.Stats().Max; got != before-10 {
		t.Errorf("Max is %d, want 10 less than %d", got, before)
	}
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands for another node failed", n)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if n := k.seen(t, "managed"); n != 0 {
		t.Errorf("the servers still see %d connections", n)
	}
}

// portOf asks a server for one of its ports.
func portOf(t *testing.T, look *redis.Client, setting string) string {
	t.Helper()
	got, err := look.ConfigGet(t.Context(), setting).Result()
	if err != nil {
		t.Fatal(err)
	}
	return got[setting]
}

// A failover that Sentinel is asked for, under load: callers see no more than a delay.
func TestSentinelFailoverUnderPause(t *testing.T) {
	testkit.Slow(t)
	s := newSentinels(t)
	p := started(t, redispool.Config{URL: s.url("&max_retries=-1"), MaxOpen: 10, MinIdle: 2, AcquireTimeout: patience})
	load := lightTraffic(t, p.Client(), 6)
	eventually(t, "traffic", func() bool { return load.done.Load() > 50 })
	sentinel, replica := admin(t, s.addrs[0]), admin(t, s.replica.Addr())
	if err := p.Pause(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica has everything", func() bool {
		n, err := replica.Get(t.Context(), "count").Int64()
		return err == nil && n == load.done.Load()
	})
	eventually(t, "the failover begins", func() bool { return sentinel.Do(t.Context(), "sentinel", "failover", "shop").Err() == nil })
	eventually(t, "all sentinels name the new primary", func() bool {
		for _, addr := range s.addrs {
			got, err := admin(t, addr).Do(t.Context(), "sentinel", "get-master-addr-by-name", "shop").StringSlice()
			if err != nil || len(got) != 2 || got[1] != s.replica.Port() {
				return false
			}
		}
		info, err := replica.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	p.Resume()
	before := load.done.Load()
	eventually(t, "traffic on the new primary", func() bool { return load.done.Load() > before+50 })
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed, without retries", n)
	}
	if n, err := replica.Get(t.Context(), "count").Int64(); err != nil || n != load.done.Load() {
		t.Errorf("%d increments on the new primary, %v; %d were made", n, err, load.done.Load())
	}
}
