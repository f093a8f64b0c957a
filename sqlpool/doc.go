// Package sqlpool opens, watches, drains and closes pools of SQL connections: PostgreSQL on
// pgxpool, MySQL and MariaDB on database/sql, any other database/sql driver, and handles that other
// code has opened.
//
// The native handle stays what it is; queries do not go through this package. It works from the
// hooks that the libraries offer:
//
//	 your code ── *pgxpool.Pool ─┬─ pgx ─── PostgreSQL      your code ── *sql.DB ─── driver ─── any SQL server
//	                             │                                          │
//	        tracers, PrepareConn │                                          │ a connector that watches checkout
//	                             ▼                                          ▼ and check-in
//	┌──────────────────────────────────────────────────────────────────────────────────────┐
//	│ limit and fair queue · who holds what, where · eviction, MinIdle · health · drain, stop, cut │
//	└──────────────────────────────────────────────────────────────────────────────────────┘
//
// A pool is made by one of five constructors, then started and stopped, best by a
// lifecycle.Registry:
//
//	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: os.Getenv("DATABASE_URL"), MaxOpen: 20})
//	if err != nil {
//		return err // every fault of the configuration
//	}
//	if err := orders.Start(ctx); err != nil {
//		return err
//	}
//	defer orders.Stop(ctx)
//	row := orders.Pool().QueryRow(ctx, "SELECT count(*) FROM orders")
//
// [NewPostgres] gives a *pgxpool.Pool and, over the same connections, a *sql.DB. [NewMySQL] and
// [NewDB] give a *sql.DB. [Adopt] takes one, and [AdoptPgxPool] a *pgxpool.Pool. Package replica
// joins the pools of a primary and of its read replicas into one component.
//
// What the package refuses to do: it does not retry, rewrite, cache or log statements. It opens
// connections only for callers, for MinIdle and for its own checks. It never hides which driver is
// underneath.
package sqlpool
