package sqlpool

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/handshake"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// Answer is the result of AskPostgres and AskMySQL.
type Answer struct {
	poolkeeper.ServerInfo

	// Limits compares the server's limits with the demand of the configuration. It has the demand
	// alone if the server did not answer.
	Limits Limits
}

// AskPostgres reports version, latency, limits and certificates of the server at cfg.URL. It needs no
// running pool: it opens a connection as a pool with cfg would, and closes it. Behind a pooler, or to
// explain a failure, it opens a few more. It blocks until the server has answered, at most for
// DialTimeout and some 4 s, or until ctx ends.
//
// If the server cannot be reached or refuses the login, AskPostgres returns an error that Classify
// knows, and the part of the Answer that it found out before. A command that the user may not run is
// no error: LeftOut names it.
func AskPostgres(ctx context.Context, cfg PostgresConfig) (Answer, error) {
	p, err := newPostgres(cfg.config()) //nolint:contextcheck // it does no I/O
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = p.Abort() }() //nolint:contextcheck // takes none; nothing is open that it could fail to close
	w := new(handshake.Watch)
	p.back.watchDials(w)
	return p.m.ask(ctx, w, p.back.inform)
}

// watchDials has w watch the connections that the pool opens, which has opened none so far.
func (b *pgxBackend) watchDials(w *handshake.Watch) {
	to := *b.target.Load()
	to.conn = to.conn.Copy()
	to.conn.DialFunc = w.Dial(to.conn.DialFunc)
	to.conn.TLSConfig = w.Config(to.conn.TLSConfig)
	for _, f := range to.conn.Fallbacks {
		f.TLSConfig = w.Config(f.TLSConfig)
	}
	b.target.Store(&to)
}

// AskMySQL is AskPostgres for MySQL and MariaDB.
func AskMySQL(ctx context.Context, cfg MySQLConfig) (Answer, error) {
	c, w := cfg.config(), new(handshake.Watch)
	user := c.ConfigureMySQL
	c.ConfigureMySQL = func(native *mysql.Config) error {
		if user != nil {
			if err := user(native); err != nil {
				return err
			}
		}
		native.TLS = w.Config(native.TLS)
		if dial := dialOf(native); dial != nil {
			native.DialFunc = w.Dial(dial)
		}
		return nil
	}
	p, err := newDBPool("mysql", c, mysqlTarget)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = p.Abort() }() //nolint:contextcheck // takes none; nothing is open that it could fail to close
	return p.m.ask(ctx, w, p.back.inform)
}

// ask runs inform, which asks the backend's server on the check's connection, and compares the
// limits. w has watched the connection.
func (m *manager) ask(
	ctx context.Context, w *handshake.Watch, inform func(context.Context, *handshake.Watch, *poolkeeper.ServerInfo) error,
) (Answer, error) {
	var a Answer
	first, cancel := context.WithTimeout(ctx, m.cfg().DialTimeout+handshake.PingsLimit)
	defer cancel()
	err := inform(first, w, &a.ServerInfo)
	w.Failed(err)
	w.Report(&a.ServerInfo, a.Latency.PingP50)
	if err != nil {
		a.Limits.judge(m.cfg())
		return a, fmt.Errorf("sqlpool: ask %q: %w", m.poolName(), fault.Wrap(m.explain(ctx, err)))
	}
	if a.Limits, err = m.limits(ctx); err != nil {
		a.Limits.judge(m.cfg())
		a.LeftOut = append(a.LeftOut, fmt.Sprintf("limits: %v", err))
	}
	if a.Limits.Pooled {
		a.LeftOut = append(a.LeftOut, "the pooler's own limits (max_client_conn, default_pool_size): only its console tells them")
	}
	return a, nil
}

// pgSettings are the settings that matter to a pool, by the names of pg_settings, as SHOW prints
// them.
const pgSettings = `select name, current_setting(name) from pg_settings where name in ('max_connections',
	'superuser_reserved_connections', 'reserved_connections', 'idle_session_timeout',
	'idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')`

// inform asks PostgreSQL.
func (b *pgxBackend) inform(ctx context.Context, w *handshake.Watch, out *poolkeeper.ServerInfo) error {
	return b.probe.Use(ctx, func(ctx context.Context, c *pgx.Conn) error {
		w.Ready()
		out.Server, out.Version = "PostgreSQL", c.PgConn().ParameterStatus("server_version")
		if err := handshake.Pings(ctx, &out.Latency, c.Ping); err != nil {
			return err
		}
		_, rows, err := postgresConn{c}.Query(ctx, pgSettings)
		setAll(out, rows, err)
		return nil
	})
}

// mysqlSettings are the same of MySQL and MariaDB.
const mysqlSettings = `show global variables where variable_name in ('max_connections', 'max_user_connections',
	'wait_timeout', 'interactive_timeout', 'require_secure_transport')`

// inform asks MySQL or MariaDB.
func (b *dbBackend) inform(ctx context.Context, w *handshake.Watch, out *poolkeeper.ServerInfo) error {
	return b.probe.Use(ctx, func(ctx context.Context, n *native) error {
		w.Ready()
		row, err := oneRow(ctx, n, "select version()", 1)
		if err != nil {
			return err
		}
		out.Server, out.Version = "MySQL", row[0]
		if strings.Contains(row[0], "MariaDB") {
			out.Server = "MariaDB"
		}
		ping := func(ctx context.Context) error { return n.ping(ctx, b.base) }
		if err = handshake.Pings(ctx, &out.Latency, ping); err != nil {
			return err
		}
		_, rows, err := n.Table(ctx, mysqlSettings)
		setAll(out, rows, err)
		return nil
	})
}

// setAll puts rows of names and values into the settings, or err into what was left out.
func setAll(out *poolkeeper.ServerInfo, rows [][]string, err error) {
	if err != nil {
		out.LeftOut = append(out.LeftOut, fmt.Sprintf("settings: %v", err))
		return
	}
	out.Settings = make(map[string]string, len(rows))
	for _, r := range rows {
		if len(r) == 2 {
			out.Settings[r[0]] = r[1]
		}
	}
}
