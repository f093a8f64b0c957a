package sqlpool

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/driverconn"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

// Native returns the driver's own connection. It takes the value that [database/sql.Conn.Raw]
// passes to its function. That value is a wrapper, whose Unwrap method returns the same connection.
// Native returns any other value unchanged, so that the same code works on every *sql.DB:
//
//	conn.Raw(func(c any) error {
//		mc := sqlpool.Native(c).(interface{ ... })
//		...
//	})
func Native(driverConn any) any {
	if w, ok := driverConn.(wrapper); ok {
		return w.base().n.Native
	}
	if w, ok := driverConn.(*pgxSQLConn); ok {
		return w.Conn
	}
	return driverConn
}

// wrapper is any of the four connection types that database/sql gets.
type wrapper interface{ base() *conn }

// native is one connection of the driver, and what the pool knows of it. It outlives its wrapper
// where it goes straight from one caller to the next.
type native struct {
	driverconn.Conn
	times // used and seen are guarded by the backend's mutex, the rest does not change

	sock  net.Conn        // nil where it is out of reach
	login *rotation.Login // by what it was opened, until that has been noted
	entry holders.Entry
	in    *conn // the wrapper it is in; nil between two; guarded by the backend's mutex
	// aged says that it has been used, or idle: it is to be reset, which is when drivers look whether
	// it still lives. Guarded by the backend's mutex.
	aged  bool
	reset time.Time // when a caller last had it reset; owned by the caller that has the connection
}

// ping pings for the pool.
func (n *native) ping(ctx context.Context, c *base) error {
	return c.guarded("the driver's Ping", func() error { return n.Pinger.Ping(ctx) })
}

// resetSession resets for a checkout. A driver that panics has broken the connection.
func (n *native) resetSession(ctx context.Context, c *base) error {
	return c.unbroken("the driver's ResetSession", func() error { return n.Resetter.ResetSession(ctx) })
}

// valid asks the driver at a check-in.
func (n *native) valid(c *base) (ok bool) {
	if n.Validator == nil {
		return true
	}
	err := c.unbroken("the driver's IsValid", func() error { ok = n.Validator.IsValid(); return nil })
	return ok && err == nil
}

// resetWithin resets the session and reports whether that took no longer than limit. Past it the
// socket is closed, or where that is out of reach the driver's context ends.
func (n *native) resetWithin(ctx context.Context, c *base, limit time.Duration) (err error, inTime bool) {
	if n.sock == nil {
		bounded, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err = n.resetSession(bounded, c)
		return err, bounded.Err() == nil || ctx.Err() != nil
	}
	cut := time.AfterFunc(limit, func() { c.cut(n.sock) })
	err = n.resetSession(ctx, c)
	return err, cut.Stop()
}

func init() { //nolint:gochecknoinits // see probe.Of
	probe.Of = func(pool any) probe.Server {
		switch p := pool.(type) {
		case *Postgres:
			return postgresServer{p}
		case *MySQL:
			return driverServer{p}
		default:
			panic(fmt.Sprintf("sqlpool: no pool: %T", pool))
		}
	}
}

// postgresServer is the server behind a pgxpool, for package replica.
type postgresServer struct{ p *Postgres }

func (s postgresServer) Ask(ctx context.Context, f func(context.Context, probe.Conn) error) error {
	return fault.Wrap(s.p.back.probe.Use(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return f(ctx, postgresConn{c})
	}))
}

func (s postgresServer) Replace() { s.p.m.failedOver() }

func (s postgresServer) Redial(ctx context.Context) { s.p.back.probe.Redial(ctx) }

type postgresConn struct{ *pgx.Conn }

// Query implements probe.Conn. It runs the query by the simple protocol.
func (c postgresConn) Query(ctx context.Context, query string) (columns []string, rows [][]string, err error) {
	results, err := c.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	if len(results) != 1 {
		return nil, nil, fmt.Errorf("the server gives %d answers to one query", len(results))
	}
	for _, f := range results[0].FieldDescriptions {
		columns = append(columns, f.Name)
	}
	for _, values := range results[0].Rows {
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = "NULL"
			if v != nil {
				row[i] = string(v)
			}
		}
		rows = append(rows, row)
	}
	return columns, rows, nil
}

// driverServer is the server behind a pool of MySQL, for package replica.
type driverServer struct{ p *MySQL }

func (s driverServer) Ask(ctx context.Context, f func(context.Context, probe.Conn) error) error {
	return fault.Wrap(s.p.back.probe.Use(ctx, func(ctx context.Context, n *native) error { return f(ctx, nativeConn{n}) }))
}

func (s driverServer) Replace() { s.p.m.failedOver() }

func (s driverServer) Redial(ctx context.Context) { s.p.back.probe.Redial(ctx) }

type nativeConn struct{ *native }

// Query implements probe.Conn.
func (c nativeConn) Query(ctx context.Context, query string) (columns []string, rows [][]string, err error) {
	return c.Table(ctx, query)
}
