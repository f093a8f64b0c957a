// Package redispool manages the connections of a go-redis client. It opens and closes them in
// order, keeps no more than traffic needs, checks the server, and lists the holders of connections.
// The client stays the native one, and the service uses it as before.
//
//	cache, err := redispool.New(redispool.Config{URL: os.Getenv("REDIS_URL"), MaxOpen: 20, MinIdle: 2})
//	if err != nil {
//		return err // every fault of the configuration at once; nothing was dialled
//	}
//	if err := cache.Start(ctx); err != nil {
//		return err
//	}
//	defer cache.Stop(ctx) // what is in flight finishes; nothing is left behind
//	cache.Client().Get(ctx, "key")
//
// A [Pool] is a component of a lifecycle.Registry, which does the starting, checking and stopping.
//
//	                        your code
//	                           │ Client(): *redis.Client or *redis.ClusterClient
//	┌──────────────────────────▼───────────────────────────┐
//	│ go-redis   your hooks ─▶ our hook ─▶ its pool        │
//	└──────────────────────────┬──────────────────┬────────┘
//	  counts what is in flight, │                 │ every connection is a conn of ours:
//	  refuses while draining,   │                 │ its age, its last use, whether it is
//	  explains failures         │                 │ to be closed at its next checkout
//	                            ▼                 ▼
//	            gate, holders ─▶ node ◀───────── books
//	                            ▲ ▲
//	    eviction.Evictor ───────┘ └─────── checker: one connection of its own, outside the pool
//	    acquires what is idle, to close
//	    or ping the coldest, or to fill up
//
// What it does, on a single node, behind Sentinel and on a Cluster (per node):
//
//   - Idle eviction by demand (package eviction). go-redis closes a stale connection only when a
//     caller has asked for one already, so after a burst all of them stay. Here the surplus is
//     closed within MaxIdleTime plus an interval, the coldest first, without a dial or a failed
//     command. Callers wait while the pool looks through the idle connections, some microseconds
//     for each and with no I/O. That happens at most once per interval and only when there is
//     something to do.
//   - Drain and Stop. Commands, pipelines, and the commands inside an open Watch or Conn finish; new ones get
//     poolkeeper.ErrDraining at once. go-redis' Close fails what is in flight.
//   - Timeouts that explain themselves: an [poolkeeper.AcquireError] names the pool's size, the connections in
//     use, the callers waiting, and the longest holder with the line of its acquisition.
//   - Leaks of Conn and Watch, reported once, with a stack.
//   - Generations: the pool replaces every connection dialled so far when the server turns out to
//     be a replica, when it is gone, when the network has swallowed connections, or when a password
//     or a certificate was renewed. Callers do not notice.
//   - Change while it works: [Pool.Reload] (planned by [Pool.Plan], tried, rolled back), [Pool.Reset], and
//     [Pool.Pause] with [Pool.Resume] for a failover that is planned. Files with secrets are watched.
//   - Isolation ([Config.Isolation]): replicas of a Cluster that serve worse than the others get no
//     reads until a trial shows that they are well.
//   - A health check that a busy pool does not fail. A connection that fails under traffic brings
//     the next check forward.
//
// # What differs from go-redis on its own
//
// Pipelines run on the one pool: the second one that go-redis keeps for them since 9.23 has no
// eviction, and is off. A context bounds every read. A failed dial is tried again with its command
// and not by itself. Maintenance notifications are off unless asked for.
//
// # What cannot be known
//
// go-redis does not report the end of a Conn. The pool notices it when the connection is handed out
// again, which [Pool.Holders], [Pool.Drain] and each sweep bring about. A Watch counts as held from
// WATCH to EXEC or UNWATCH, so the pool does not see a function that goes on for long after EXEC. A
// command that blocks on the server (BLPOP) is counted, but not listed. Hooks added to the client
// after Start see a PING, or a transaction of one, before the first command of a Conn or Watch. It
// tells the pool which connection that has, and does not reach the server.
//
// # What it refuses to do
//
// It wraps no command and returns no type of its own for results. It does not manage a redis.Ring:
// give each shard a Pool. Reload does not change what go-redis fixes when a client is made: its
// kind, addresses of a Cluster and of sentinels, timeouts of a command. It does not support
// client-side caching, Sentinel with routing to replicas (go-redis leaks that client's
// connections), or a pool without deadlines; New returns an error for them.
package redispool
