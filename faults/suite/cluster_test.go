package suite_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

const (
	clusterPrimaries = 3
	clusterSlots     = 16384
)

// clusterBackend is three primaries, and a replica of the first one.
func clusterBackend() *backend {
	b := &backend{}
	a := &redisNodes{}
	b.start = func(tb testing.TB, _ ...string) *testserver.Server {
		tb.Helper()
		var buses []string
		for range clusterPrimaries + 1 {
			_, bus, _ := net.SplitHostPort(testkit.FreeAddr(tb))
			buses = append(buses, bus)
			a.add(testserver.Redis(tb, nodeArgs("--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000",
				"--cluster-allow-replica-migration", "no")...))
		}
		a.form(tb, buses)
		for _, s := range a.servers[:clusterPrimaries] {
			b.topology = append(b.topology, s.Addr())
		}
		b.ports = a.ports()
		return a.servers[0]
	}
	b.connect = func(b *backend) error { b.admin = a; return nil }
	return b
}

// form makes a cluster of the nodes, and waits until each knows all.
func (a *redisNodes) form(tb testing.TB, buses []string) {
	tb.Helper()
	ctx := testkit.Within(tb, testkit.Patience)
	for i, r := range a.admins[:clusterPrimaries] {
		err := r.c.Do(ctx, "cluster", "addslotsrange", i*clusterSlots/clusterPrimaries, (i+1)*clusterSlots/clusterPrimaries-1).Err()
		if err != nil {
			tb.Fatal(err)
		}
	}
	known := "cluster_known_nodes:" + strconv.Itoa(len(a.admins))
	all := func(what string, yes func(r *redisAdmin) bool) bool {
		for _, r := range a.admins {
			info, err := r.c.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, what) || !yes(r) {
				return false
			}
		}
		return true
	}
	any := func(*redisAdmin) bool { return true }
	var introduced time.Time
	testkit.Eventually(tb, "the nodes know each other", func() bool {
		if time.Since(introduced) > 3*time.Second { // a node forgets the ones that it could not meet
			introduced = time.Now()
			for _, r := range a.admins[1:] {
				if err := r.c.Do(ctx, "cluster", "meet", "127.0.0.1", a.servers[0].Port(), buses[0]).Err(); err != nil {
					tb.Fatal(err)
				}
			}
		}
		return all(known, any)
	})
	testkit.Eventually(tb, "the replica knows its primary", func() bool {
		id, err := a.admins[0].id(ctx)
		return err == nil && a.admins[clusterPrimaries].c.ClusterReplicate(ctx, id).Err() == nil
	})
	testkit.Eventually(tb, "the cluster is up", func() bool {
		return all("cluster_state:ok", func(r *redisAdmin) bool {
			slots, err := r.c.ClusterSlots(ctx).Result() //nolint:staticcheck // what go-redis itself asks for
			nodes := 0
			for _, s := range slots {
				nodes += len(s.Nodes)
			}
			return err == nil && nodes == len(a.admins)
		})
	})
}

func (a *redisAdmin) id(ctx context.Context) (string, error) {
	return a.c.Do(ctx, "cluster", "myid").Text()
}

// moveSlots moves the slots of the first node, with their keys, to the second one.
func (a *redisNodes) moveSlots(ctx context.Context) error {
	from, to := a.admins[0], a.admins[1]
	source, err := from.id(ctx)
	if err != nil {
		return err
	}
	target, err := to.id(ctx)
	if err != nil {
		return err
	}
	used := map[int64]bool{}
	keys, err := from.c.Keys(ctx, "*").Result()
	for _, k := range keys {
		slot, serr := from.c.ClusterKeySlot(ctx, k).Result()
		used[slot], err = true, errors.Join(err, serr)
	}
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(to.addr)
	for slot := range used {
		steps := []error{
			to.c.Do(ctx, "cluster", "setslot", slot, "importing", source).Err(),
			from.c.Do(ctx, "cluster", "setslot", slot, "migrating", target).Err(),
		}
		for {
			in, err := from.c.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
			if steps = append(steps, err); err != nil || len(in) == 0 {
				break
			}
			migrate := []any{"migrate", "127.0.0.1", port, "", 0, 5000, "auth", secret, "keys"}
			for _, k := range in {
				migrate = append(migrate, k)
			}
			steps = append(steps, from.c.Do(ctx, migrate...).Err())
		}
		steps = append(steps, a.assign(ctx, []int64{slot}, target))
		if err := errors.Join(steps...); err != nil {
			return fmt.Errorf("moving slot %d: %w", slot, err)
		}
	}
	empty := make([]int64, 0, clusterSlots/clusterPrimaries)
	for slot := range int64(clusterSlots / clusterPrimaries) {
		if !used[slot] {
			empty = append(empty, slot)
		}
	}
	return a.assign(ctx, empty, target)
}

// assign says to all primaries whose the slots are: first to the new owner.
func (a *redisNodes) assign(ctx context.Context, slots []int64, owner string) error {
	for _, i := range []int{1, 0, 2} {
		_, err := a.admins[i].c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, slot := range slots {
				p.Do(ctx, "cluster", "setslot", slot, "node", owner)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forget has the other nodes forget the first one. Its replica follows the second one by then, or
// is told to.
func (a *redisNodes) forget(ctx context.Context) error {
	gone, err := a.admins[0].id(ctx)
	if err != nil {
		return err
	}
	heir, err := a.admins[1].id(ctx)
	if err != nil {
		return err
	}
	if err = a.admins[clusterPrimaries].c.ClusterReplicate(ctx, heir).Err(); err != nil {
		return err
	}
	for _, r := range a.admins[1:] {
		err = errors.Join(err, r.c.ClusterForget(ctx, gone).Err())
	}
	return err
}
