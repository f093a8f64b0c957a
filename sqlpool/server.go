package sqlpool

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

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
