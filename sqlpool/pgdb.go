package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// lostError is how a statement fails whose connection was lost while it ran, where the driver calls
// that safe to retry. It never matches driver.ErrBadConn: the server may have carried out the
// statement, and database/sql would send it again.
type lostError struct{}

func (lostError) Error() string {
	return "sqlpool: the connection was lost while the statement ran; the server may have carried it out"
}
func (lostError) SafeToRetry() bool { return false }
func (lostError) Is(target error) bool {
	return target == io.ErrUnexpectedEOF || target == pgconn.ErrConnClosed
}

// pgxConnector is pgx's connector over a *pgxpool.Pool, of connections that send a statement once.
type pgxConnector struct{ driver.Connector }

func (o pgxConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := o.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if pg, ok := c.(*stdlib.Conn); ok {
		return &pgxSQLConn{pg}, nil
	}
	return c, nil
}

// pgxSQLConn is pgx's connection for database/sql, but for one answer: pgx takes a connection that
// broke under a statement without arguments for one that was closed before, and has database/sql
// send the statement again.
type pgxSQLConn struct{ *stdlib.Conn }

// Unwrap returns pgx's own.
func (c *pgxSQLConn) Unwrap() driver.Conn { return c.Conn }

func (c *pgxSQLConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	pg := c.Conn.Conn()
	before := pg.IsClosed()
	res, err := c.Conn.ExecContext(ctx, query, args)
	if before || !errors.Is(err, driver.ErrBadConn) || !pg.IsClosed() {
		return res, err
	}
	if r := connOf(pg.PgConn()); r != nil && !errors.Is(r.lastErr, pgconn.ErrConnClosed) {
		return res, err // nothing was sent
	}
	return nil, lostError{}
}

func openPgxDB(b *pgxBackend) *sql.DB {
	db := sql.OpenDB(pgxConnector{stdlib.GetPoolConnector(b.pool)})
	db.SetMaxIdleConns(0) // pgxpool keeps the idle ones
	return db
}
