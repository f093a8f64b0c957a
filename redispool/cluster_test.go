package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// cluster is a real one.
type cluster struct {
	nodes     []*testserver.Server // the primaries first
	looks     []*redis.Client      // one raw client per node
	primaries int
}

// newCluster starts primaries that share the slots. Nodes beyond them are their replicas, in turn.
func newCluster(tb testing.TB, primaries, replicas int) *cluster {
	tb.Helper()
	return newClusterOf(tb, primaries, replicas, func() []string { return nil })
}

// newClusterOf is newCluster with further arguments for each node.
func newClusterOf(tb testing.TB, primaries, replicas int, further func() []string) *cluster {
	tb.Helper()
	k := &cluster{primaries: primaries}
	buses := make([]string, primaries+replicas)
	for i := range primaries + replicas {
		_, buses[i], _ = net.SplitHostPort(freeAddr(tb))
		s := testserver.Redis(tb, append(further(), "--cluster-enabled", "yes", "--cluster-port", buses[i],
			"--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")...)
		k.nodes = append(k.nodes, s)
		k.looks = append(k.looks, admin(tb, s.Addr()))
	}
	ctx := within(tb, patience)
	do := func(i int, args ...any) {
		tb.Helper()
		if err := k.looks[i].Do(ctx, args...).Err(); err != nil {
			tb.Fatalf("node %d: %v: %v", i, args, err)
		}
	}
	const slots = 16384
	for i := range primaries {
		do(i, "cluster", "addslotsrange", i*slots/primaries, (i+1)*slots/primaries-1)
	}
	// A node forgets within its timeout whom it could not meet, as on a busy machine, so they are
	// introduced until they know each other.
	known := "cluster_known_nodes:" + strconv.Itoa(len(k.nodes))
	introduced := time.Now().Add(-time.Hour)
	eventually(tb, "the nodes know each other", func() bool {
		again := time.Since(introduced) > 3*time.Second
		if again {
			introduced = time.Now()
		}
		all := true
		for i, c := range k.looks {
			info, err := c.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, known) {
				continue
			}
			all = false
			if again && i > 0 {
				do(i, "cluster", "meet", "127.0.0.1", k.nodes[0].Port(), buses[0])
			}
		}
		return all
	})
	for i := primaries; i < len(k.nodes); i++ {
		id, err := k.looks[i%primaries].Do(ctx, "cluster", "myid").Text()
		if err != nil {
			tb.Fatal(err)
		}
		eventually(tb, "a replica knows its primary", func() bool {
			return k.looks[i].Do(ctx, "cluster", "replicate", id).Err() == nil
		})
	}
	eventually(tb, "the cluster is up", func() bool {
		for _, c := range k.looks {
			info, err := c.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, known) {
				return false
			}
			slots, err := c.ClusterSlots(ctx).Result() //nolint:staticcheck // what go-redis itself asks for
			if err != nil || len(slots) != primaries || !allReplicated(slots, replicas) {
				return false
			}
		}
		return true
	})
	return k
}

// allReplicated reports whether that many replicas are known.
func allReplicated(slots []redis.ClusterSlot, replicas int) bool {
	for _, s := range slots {
		replicas -= len(s.Nodes) - 1
	}
	return replicas == 0
}

func (k *cluster) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: []string{k.nodes[0].Addr()}, IsClusterMode: true, ClientName: "managed"}
}

// seen counts connections by name over all nodes that run.
func (k *cluster) seen(tb testing.TB, name string) int {
	tb.Helper()
	n := 0
	for i, s := range k.nodes {
		if s.Running() {
			n += clients(tb, k.looks[i])[name]
		}
	}
	return n
}

func TestClusterIsEvictedPerNodeAndDrained(t *testing.T) { // INV-7, INV-8, INV-9
	k := newCluster(t, 3, 0)
	p := started(t, redispool.Config{
		Options: k.options(), MaxOpen: 40, MinIdle: 1,
		MaxIdleTime: 500 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	c := p.Client()
	if _, ok := c.(*redis.ClusterClient); !ok {
		t.Fatalf("Client is a %T", c)
	}
	if s := p.Stats(); s.Max != 3*40 {
		t.Errorf("Max is %d, want 40 for each of 3 nodes", s.Max)
	}
	// 10 at once on each node.
	var wg sync.WaitGroup
	keys := []string{"{a}q", "{b}q", "{c}q"} // slots 15495, 3300, 7365: one on each
	for _, key := range keys {
		for range 10 {
			wg.Go(func() {
				if err := c.BLPop(within(t, patience), 0, key).Err(); err != nil {
					t.Errorf("BLPOP: %v", err)
				}
			})
		}
	}
	for i := range k.nodes {
		eventually(t, "10 wait on each node", func() bool { return blocked(t, k.looks[i]) == 10 })
	}
	eventually(t, "30 are in use", func() bool { return p.Stats().InUse == 30 })
	for _, key := range keys {
		if err := c.RPush(t.Context(), key, make([]any, 10)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	// Light traffic on one node only; each keeps its own MinIdle.
	dials := p.Stats().Dials
	begun := time.Now()
	eventually(t, "each node is down to what it needs", func() bool {
		if err := c.Incr(t.Context(), "{a}n").Err(); err != nil {
			t.Errorf("INCR: %v", err)
		}
		return p.Stats().Open <= 4
	})
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("down after %s, before MaxIdleTime", took)
	}
	if d := p.Stats().Dials - dials; d > 0 {
		t.Errorf("%d dials since the burst", d)
	}
	if n := k.seen(t, "managed"); n > 4+3 {
		t.Errorf("the servers see %d connections, want 4 and a check's per node", n)
	}

	// A pipeline over all nodes, a transaction, a watch.
	_, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range 30 {
			pipe.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	watched := make(chan struct{})
	goOn := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- c.Watch(within(t, patience), func(tx *redis.Tx) error {
			close(watched)
			<-goOn
			_, err := tx.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Incr(t.Context(), "{b}n").Err() })
			return err
		}, "{b}n")
	}()
	<-watched
	wantHolders(t, p, "watch")
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(within(t, patience)) }()
	drainBegun(t, p)
	pipe := c.Pipeline()
	get := pipe.Get(t.Context(), "k1")
	if _, err := pipe.Exec(t.Context()); !errors.Is(err, poolkeeper.ErrDraining) || !errors.Is(get.Err(), poolkeeper.ErrDraining) {
		t.Errorf("pipeline while draining: %v, %v", err, get.Err())
	}
	if err := c.Watch(t.Context(), func(*redis.Tx) error { return nil }, "x"); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("watch while draining: %v", err)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a watch open: %v", err)
	default:
	}
	close(goOn)
	if err := <-result; err != nil {
		t.Errorf("a watch begun before the drain: %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if n := k.seen(t, "managed"); n != 0 {
		t.Errorf("the servers still see %d connections", n)
	}
}

func TestClusterCheck(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 3, 0)
	p := started(t, redispool.Config{Options: k.options()})
	if err := p.Check(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	k.nodes[2].Kill(t)
	eventually(t, "a third of the slots is missed", func() bool {
		return health.Classify(p.Check(within(t, 2*time.Second))).Kind == health.KindClusterDown
	})
	for _, n := range k.nodes[:2] {
		n.Kill(t)
	}
	eventually(t, "nobody answers", func() bool {
		return health.Classify(p.Check(within(t, 2*time.Second))).Kind == health.KindRefused
	})
	for _, n := range k.nodes {
		n.Restart(t)
	}
	eventually(t, "all is well again", func() bool { return p.Check(within(t, 2*time.Second)) == nil })
}

func TestClusterWithoutAReplicaIsDegraded(t *testing.T) {
	k := newCluster(t, 1, 1)
	p := started(t, redispool.Config{Options: k.options()})
	k.nodes[1].Kill(t)
	err := p.Check(within(t, patience))
	if err == nil || !strings.Contains(err.Error(), "node "+k.nodes[1].Addr()) {
		t.Errorf("Check = %v; want it to name the node", err)
	}
	m := health.New(health.Config{})
	if _, rerr := m.Register(health.Check{Name: "cache", Probe: p.Check}); rerr != nil {
		t.Fatal(rerr)
	}
	if serr := m.Start(t.Context()); serr != nil {
		t.Fatal(serr)
	}
	eventually(t, "a monitor takes it as a reservation", func() bool {
		r := m.Report()
		return len(r.Checks) == 1 && r.Checks[0].Status == health.StatusWarn
	})
	if serr := m.Stop(within(t, patience)); serr != nil {
		t.Error(serr)
	}
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Errorf("the primary serves still: %v", err)
	}

	// go-redis closes the client of a node that has left, a minute later. The pool does not report
	// that.
	c, ok := p.Client().(*redis.ClusterClient)
	if !ok {
		t.Fatal("no ClusterClient")
	}
	before := p.Stats().Max
	if err := c.ForEachSlave(t.Context(), func(_ context.Context, n *redis.Client) error { return n.Close() }); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(within(t, patience)); err != nil {
		t.Errorf("Check = %v with the node forgotten", err)
	}
	if after := p.Stats().Max; after != before/2 {
		t.Errorf("Max is %d, want half of %d", after, before)
	}
}

// A primary dies and its replica takes over. No node is left that could redirect callers there by
// MOVED. On its own go-redis asks for the slots once a minute.
func TestClusterFailoverIsFollowed(t *testing.T) {
	k := newCluster(t, 3, 1) // the replica is the first primary's
	p := started(t, redispool.Config{Options: k.options(), MaxOpen: 10, MinIdle: 1})
	raw := redis.NewClusterClient(&redis.ClusterOptions{Addrs: k.options().Addrs, ContextTimeoutEnabled: true})
	defer func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	}()
	key := k.keyAt(t, 0)
	set := func(c redis.UniversalClient) error { return c.Set(within(t, time.Second), key, 1, 0).Err() }
	for _, c := range []redis.UniversalClient{raw, p.Client()} {
		if err := set(c); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the replica has it", func() bool {
		size, err := k.looks[3].DBSize(t.Context()).Result()
		return err == nil && size == 1
	})
	k.nodes[0].Kill(t)
	eventually(t, "the replica has taken over", func() bool {
		info, err := k.looks[3].Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	begun := time.Now()
	eventually(t, "writes go to the new primary", func() bool { return set(p.Client()) == nil })
	t.Logf("found after %s", time.Since(begun))
	if err := set(raw); err == nil {
		t.Error("go-redis on its own has found it too; the comparison has lost its point")
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// A primary falls silent, and its replica takes over. Its connections stay open, and new ones are
// accepted: no dial fails that could make the pool ask for the slots, and no breaker opens.
func TestClusterFailoverOfASilentNodeIsFollowed(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 3, 1) // the replica is the first primary's
	p := started(t, redispool.Config{Options: k.options(), MaxOpen: 10, FailFastAfter: poolkeeper.Off})
	raw := redis.NewClusterClient(&redis.ClusterOptions{Addrs: k.options().Addrs, ContextTimeoutEnabled: true})
	defer func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	}()
	key := k.keyAt(t, 0)
	set := func(c redis.UniversalClient) error { return c.Set(within(t, 500*time.Millisecond), key, 1, 0).Err() }
	for _, c := range []redis.UniversalClient{raw, p.Client()} {
		eventually(t, "the slot is served", func() bool { return set(c) == nil })
	}
	eventually(t, "the replica has it", func() bool {
		size, err := k.looks[3].DBSize(t.Context()).Result()
		return err == nil && size == 1
	})
	k.nodes[0].Freeze(t)
	defer k.nodes[0].Thaw(t)
	begun := time.Now()
	eventually(t, "writes go to the new primary", func() bool { return set(p.Client()) == nil })
	t.Logf("found %s after the primary fell silent", time.Since(begun))
	if err := set(raw); err == nil {
		t.Error("go-redis on its own has found it too; the comparison has lost its point")
	}
}

// A primary falls silent under load until its breaker is open, and a replica takes over. Callers
// are refused without a dial by then, and must be led to the new primary all the same.
func TestClusterFailoverIsFollowedWhileTheBreakerIsOpen(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 3, 1) // the replica is the first primary's
	p := started(t, redispool.Config{
		Options: k.options(), MaxOpen: 10, DialTimeout: time.Second, ReadTimeout: time.Second, FailFastAfter: 200 * time.Millisecond,
	})
	key := k.keyAt(t, 0)
	set := func() error { return p.Client().Set(within(t, 2*time.Second), key, 1, 0).Err() }
	if err := set(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica has it", func() bool {
		size, err := k.looks[3].DBSize(t.Context()).Result()
		return err == nil && size == 1
	})
	k.nodes[0].Freeze(t)
	defer k.nodes[0].Thaw(t)
	eventually(t, "the breaker is open", func() bool { return errors.Is(set(), poolkeeper.ErrDown) })
	eventually(t, "the replica has taken over", func() bool {
		info, err := k.looks[3].Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	soon := within(t, 40*time.Second) // by itself go-redis asks for the slots once a minute
	for set() != nil {
		if soon.Err() != nil {
			t.Fatal("writes still go to the primary that is silent")
		}
	}
	for range 20 {
		if err := set(); err != nil {
			t.Fatal(err)
		}
	}
}
