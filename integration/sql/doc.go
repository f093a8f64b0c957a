// Package integration shows libraries that are built on PostgreSQL and database/sql on handles that
// sqlpool keeps: River, GORM, sqlx, code that sqlc has generated, and otelsql; and that the drivers
// of PostgreSQL, MySQL and SQLite behave under it as by themselves. It has tests, examples and a
// benchmark only. It is a module of its own, so a service that imports poolkeeper gets none of
// these libraries.
//
//	registry   db ◀── schema ◀── river        *pgxpool.Pool: Postgres.Pool()
//	              ◀── GORM, sqlx, sqlc ◀── api  *sql.DB: Pool.DB(), Postgres.DB()
//	start      left to right; shutdown right to left
//
// What a library opens with round trips (GORM asks the server for its version, sqlc prepares) is
// opened in a component of its own, after the pool has started:
//
//	reg.Add("db", pool)
//	reg.Add("gorm", lifecycle.Hooks{OnStart: open}, lifecycle.WithDependencies("db"))
//
// It refuses to promise more than the libraries do: River does a job at least once, not exactly
// once.
package integration
