// Package tracing shows the tracing libraries of the drivers on handles that the pools keep: redisotel
// on go-redis, otelpgx on pgxpool, otelsql on database/sql. It has tests only. It is a module of its
// own, so a service that imports poolkeeper gets none of these libraries.
//
//	caller's span ──▶ redisotel, otelpgx, otelsql: a span for each command or statement
//	                       │
//	                  handle of the pool ──▶ server
//
// The pools record no spans: these libraries do, and know what each driver can tell.
//
// It refuses to compare the libraries.
package tracing
