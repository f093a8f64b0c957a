package redispool

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// go-redis picks the node of a read from the last answer to CLUSTER SLOTS, and offers no filter. So
// the hook of the node that was asked changes the answer before go-redis sees it:
//
//	slots 0-8191:      primary, r1, r2      ──▶  0-8191:  primary, r1           r2 gets no reads
//	                                             16384:   primary, r2           and stays a node
//
//	during a trial     0-8191:  primary, r1 ×19, r2
//
// There is no slot 16384, so no read goes there. But go-redis closes the client of a node that its
// topology lacks, and ForEachSlave would not visit it. go-redis takes the replicas of a range in turn
// or at random, so a replica that is listed more often gets more reads.

// slotsOfCluster is the number of slots. They count from 0.
const slotsOfCluster = 16384

// topology is what a node says about the Cluster.
type topology struct {
	slots  []redis.ClusterSlot
	keys   [][]string // of the nodes of each of slots
	shards []*shard   // in the order of slots
}

// topologyOf reads the answer of the node at origin. The keys of nodes are the addresses by which
// go-redis knows them.
func topologyOf(slots []redis.ClusterSlot, origin string) *topology {
	t := &topology{slots: slots, keys: make([][]string, len(slots))}
	for i, s := range slots {
		for _, n := range s.Nodes {
			t.keys[i] = append(t.keys[i], reachable(n.Addr, origin))
		}
		if len(t.keys[i]) == 0 {
			continue
		}
		of := t.shard(t.keys[i][0])
		if of == nil {
			of = &shard{primary: t.keys[i][0]}
			t.shards = append(t.shards, of)
		}
		for _, key := range t.keys[i][1:] {
			if key != of.primary && !slices.Contains(of.replicas, key) {
				of.replicas = append(of.replicas, key)
			}
		}
	}
	return t
}

// shard returns the shard with a primary, or nil.
func (t *topology) shard(primary string) *shard {
	for _, s := range t.shards {
		if s.primary == primary {
			return s
		}
	}
	return nil
}

// answer returns the slots with the nodes to read from, as each shard's reads say.
func (t *topology) answer() []redis.ClusterSlot {
	nodes := map[string]redis.ClusterNode{}
	out := make([]redis.ClusterSlot, 0, len(t.slots)+len(t.shards))
	for i, s := range t.slots {
		for j, n := range s.Nodes {
			nodes[t.keys[i][j]] = n
		}
		if len(s.Nodes) > 1 {
			here := func(key string) bool { return slices.Contains(t.keys[i], key) }
			s.Nodes = listed(s.Nodes[0], t.shard(t.keys[i][0]).reads, nodes, here)
		}
		out = append(out, s)
	}
	for _, s := range t.shards {
		rest := listed(nodes[s.primary], s.replicas, nodes, func(key string) bool { return !slices.Contains(s.reads, key) })
		if len(rest) > 1 {
			at := slotsOfCluster + len(out)
			out = append(out, redis.ClusterSlot{Start: at, End: at, Nodes: rest})
		}
	}
	return out
}

// listed returns a primary, and those of its replicas that may be listed with it.
func listed(primary redis.ClusterNode, replicas []string, nodes map[string]redis.ClusterNode, may func(string) bool) []redis.ClusterNode {
	out := []redis.ClusterNode{primary}
	for _, key := range replicas {
		if may(key) {
			out = append(out, nodes[key])
		}
	}
	return out
}

// reachable returns the address by which go-redis reaches a node that the node at origin names addr.
// A loopback address is as seen by the node, so the host of origin takes its place, unless that is
// a loopback too. Port 0 stands for the port of origin: a Cluster with TLS only says so.
func reachable(addr, origin string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	originHost, originPort, _ := net.SplitHostPort(origin)
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() && !isLoopback(originHost) {
		host = originHost
	}
	if port == "0" {
		port = cmp.Or(originPort, port)
	}
	return net.JoinHostPort(host, port)
}

// isLoopback is go-redis' own: names that lead to this machine count as loopback addresses.
func isLoopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".docker.internal")
}

// slotsForCaller is the key of a context in which a caller asks the Cluster for its slots. go-redis
// itself asks a node, and so does not come through the Cluster's hook, which sets it.
type slotsForCaller struct{}

// forCaller marks ctx if cmd is a caller's question for the slots.
func forCaller(ctx context.Context, cmd redis.Cmder) context.Context {
	if _, ok := cmd.(*redis.ClusterSlotsCmd); ok {
		return context.WithValue(ctx, slotsForCaller{}, true)
	}
	return ctx
}

// loadsTopology reports whether go-redis itself asks for the slots with cmd, and not a caller. A caller
// that asks a node's own client, which ForEachShard hands out, counts as go-redis.
func loadsTopology(ctx context.Context, cmd redis.Cmder) (slots *redis.ClusterSlotsCmd, ok bool) {
	slots, ok = cmd.(*redis.ClusterSlotsCmd)
	return slots, ok && ctx.Value(slotsForCaller{}) == nil
}
