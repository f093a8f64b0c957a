// Package probe lets package replica reach the server behind a pool of package sqlpool: it asks
// questions on the connection that the pool keeps for its health checks, and says when the server
// is not what it was taken for. Users of the pools see none of it.
//
//	replica ── Ask, Replace, Redial ──▶ probe.Server ◀── implements ── sqlpool
//
// It refuses to interpret an answer: what a role or a log position means is replica's.
package probe

import "context"

// Server is the server behind one pool. It is safe for concurrent use.
type Server interface {
	// Ask runs f with the connection of the pool's health checks, one caller at a time. It dials
	// if there is none. A kept connection that turns out to be lost is replaced, and f runs again.
	// It blocks at most until ctx ends. Its error answers health.Classify.
	Ask(ctx context.Context, f func(ctx context.Context, c Conn) error) error

	// Replace closes the connections of callers, each as soon as it is idle, because the server's
	// role has changed. It does not block.
	Replace()

	// Redial closes the connection of the health checks, so that the next Ask dials. It blocks
	// until an Ask under way has ended, at most until ctx ends.
	Redial(ctx context.Context)
}

// Conn is a connection to a server. It is valid until the function that received it returns.
type Conn interface {
	// Query returns the names of the columns and all rows, in text format. NULL is "NULL".
	Query(ctx context.Context, query string) (columns []string, rows [][]string, err error)
}

// Of returns the Server behind a *sqlpool.Postgres or a *sqlpool.MySQL. Package sqlpool sets it
// before any pool exists.
var Of func(pool any) Server //nolint:gochecknoglobals // sqlpool may not export what only replica needs
