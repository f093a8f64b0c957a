// Package replica runs a SQL primary and its read replicas as one component: one pool of package
// sqlpool for each server, all of them started, polled, drained and stopped together.
//
//	Primary()                Replica(): those that are fit, in turn
//	    │                       ┌─────────┴─────────┐
//	    ▼                       ▼                   ▼
//	  pool                    pool                pool
//	    │  ┌────────────────────┼───────────────────┤ polled every PollInterval:
//	    ▼  ▼                    ▼                   ▼ up? read-only? how far behind?
//	 primary ── log ──────▶ replica-1           replica-2
//	         └───────────────────────── log ────────▲
//
// A replica is fit if it answers, refuses writes and is at most MaxLag behind. While none is,
// Fallback decides: the primary, a stale replica, or an error.
//
//	orders, err := replica.NewPostgres(replica.PostgresConfig{
//		Primary:  sqlpool.PostgresConfig{URL: os.Getenv("DATABASE_URL")},
//		Replicas: []sqlpool.PostgresConfig{{URL: os.Getenv("REPLICA_URL"), Start: poolkeeper.StartDegraded}},
//		MaxLag:   5 * time.Second,
//	})
//	…
//	reg.Add("orders", orders)
//	_, err = orders.Primary().Pool().Exec(ctx, "insert into orders …")
//	rows, err := orders.Replica().Pool().Query(ctx, "select … from orders")
//
// [NewPostgres] is for PostgreSQL and its streaming standbys, [NewMySQL] for MySQL and MariaDB.
//
// It does not read statements to route them: the caller says Primary or Replica. It does not
// promote a replica, nor send writes to one. It has no weights and no zones: replicas take turns.
// Isolation takes replicas out that serve worse than the others. It is not for clusters in which
// every server takes writes, such as Galera.
package replica
