package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pooler"
)

// pgLimits is one query, because it is asked at every start. reserved_connections is PostgreSQL
// 16's, and idle_session_timeout 14's.
const pgLimits = `select current_setting('max_connections')::int,
	case when r.rolsuper then 0 else current_setting('superuser_reserved_connections')::int
		+ coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) end,
	r.rolconnlimit, d.datconnlimit,
	(select count(*) from pg_stat_activity where backend_type = 'client backend'),
	coalesce((select setting::bigint from pg_settings where name = 'idle_session_timeout'), 0),
	coalesce(inet_client_port(), 0), pg_backend_pid()
	from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()`

func (b *pgxBackend) limits(ctx context.Context) (Limits, error) {
	var l Limits
	err := b.probe.Use(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var role, db, idle, port int
		var pid uint32
		// The simple protocol leaves no prepared statement behind in a pooler's session, which
		// another client gets next.
		err := c.QueryRow(ctx, pgLimits, pgx.QueryExecModeSimpleProtocol).
			Scan(&l.MaxConnections, &l.Reserved, &role, &db, &l.OnServer, &idle, &port, &pid)
		if err != nil {
			return err
		}
		l.UserLimit = lower(role, db)
		l.IdleTimeout = time.Duration(idle) * time.Millisecond
		if l.Pooled = pid != c.PgConn().PID(); l.Pooled {
			l.TransactionMode, err = b.sharesSessions(ctx, pid)
			if err != nil {
				l.TransactionMode = false // the limits do not depend on it
			}
		}
		if a, ok := c.PgConn().Conn().LocalAddr().(*net.TCPAddr); ok && port != 0 {
			l.Proxied = a.Port != port
		}
		return nil
	})
	b.pooled.Store(err == nil && l.Pooled)
	return l, err
}

// lower returns the lower of two limits, of which those that are not positive are none.
func lower(a, b int) int {
	switch {
	case a <= 0:
		return max(b, 0)
	case b <= 0:
		return a
	default:
		return min(a, b)
	}
}

// sharesSessions asks by a second connection whether a pooler shares first with other clients.
func (b *pgxBackend) sharesSessions(ctx context.Context, first uint32) (bool, error) {
	second, err := b.dialCheck(ctx)
	if err != nil {
		return false, err
	}
	defer b.hangUp(ctx, second)
	return pooler.SharesSessions(ctx, second, first)
}

// execMode is how pgx runs queries, as the user has configured it.
func (b *pgxBackend) execMode() pgx.QueryExecMode {
	return b.target.Load().native.ConnConfig.DefaultQueryExecMode
}

func (b *dbBackend) limits(ctx context.Context) (Limits, error) {
	if b.base.kind != "mysql" {
		return Limits{}, fmt.Errorf("of this driver nothing is known: %w", errors.ErrUnsupported)
	}
	var l Limits
	err := b.probe.Use(ctx, func(ctx context.Context, n *native) error {
		row, err := mysqlRow(ctx, n,
			"select @@global.max_connections, @@session.max_user_connections, @@session.wait_timeout", 3)
		if err != nil {
			return err
		}
		status, err := mysqlRow(ctx, n, "show global status like 'Threads_connected'", 2)
		if err != nil {
			return err
		}
		l.MaxConnections, l.UserLimit, l.OnServer = number(row[0]), number(row[1]), number(status[1])
		l.IdleTimeout = time.Duration(number(row[2])) * time.Second
		return nil
	})
	return l, err
}

// mysqlRow returns the first row of a query.
func mysqlRow(ctx context.Context, n *native, query string, columns int) ([]string, error) {
	_, rows, err := n.Table(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, errors.New("the server answers with no row")
	case len(rows[0]) != columns:
		return nil, errors.New("the server answers with other columns than were asked for")
	}
	return rows[0], nil
}

// number reads a number; anything else is 0.
func number(v string) int {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0
	}
	return int(min(n, math.MaxInt32))
}
