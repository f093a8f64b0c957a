package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pooler"
)

// Limits compares the server's connection limits with the demand of a configuration.
type Limits struct {
	MaxConnections int // the server's limit
	Reserved       int // of these, kept for superusers and the like
	UserLimit      int // of this user or database, whichever is lower; 0: none
	OnServer       int // connections on the server now, of all clients

	PerInstance int // MaxOpen, and one for checks
	Instances   int // Instances of the configuration
	Surge       int // more instances while a version is rolled out: a quarter, rounded up, as by default on Kubernetes
	Demand      int // PerInstance × (Instances + Surge)

	IdleTimeout time.Duration // after which the server closes a silent session; 0: never
	Proxied     bool          // something stands between: its own limits come first, and cannot be seen
	Pooled      bool          // what stands between is a pooler, such as pgbouncer: the server's limits are its affair

	// TransactionMode says that the pooler was seen to give a session to another client between
	// transactions. Then nothing that belongs to a session lasts: set default_query_exec_mode=exec
	// in URL. False where it is not known.
	TransactionMode bool

	Warnings []string // each with its numbers; empty: all fits
}

// limits asks the backend for what the server grants and compares.
func (m *manager) limits(ctx context.Context) (Limits, error) {
	l, err := m.back.limits(ctx)
	if err != nil {
		return Limits{}, fmt.Errorf("sqlpool: limits of %q: %w", m.poolName(), fault.Wrap(err))
	}
	if !l.Pooled {
		m.silence.Store(int64(l.IdleTimeout))
		m.keepAliveWithin()
	}
	l.judge(m.cfg())
	m.metrics.fleet.Note(l.fleet())
	return l, nil
}

// fleet is l for Stats. Behind a pooler the server's limit is not that of the fleet.
func (l *Limits) fleet() poolkeeper.FleetStats {
	f := poolkeeper.FleetStats{Demand: l.Demand, Limit: l.granted(), OnServer: l.OnServer, Warnings: l.Warnings}
	if l.UserLimit > 0 && (f.Limit == 0 || l.UserLimit < f.Limit) {
		f.Limit = l.UserLimit
	}
	if l.Pooled {
		f.Limit = 0
	}
	return f
}

// within returns cfg with a KeepAlive that the server's own time-out allows, unless one was asked
// for.
func (m *manager) within(cfg, asked *config) *config {
	silence := time.Duration(m.silence.Load())
	if asked.KeepAlive != 0 || silence <= 0 || cfg.KeepAlive < silence {
		return cfg
	}
	shorter := *cfg
	shorter.KeepAlive = silence / 2
	return &shorter
}

// keepAliveWithin puts that in effect.
func (m *manager) keepAliveWithin() {
	if !m.state.TryBeginChange() {
		return // a Reload does it too
	}
	defer m.state.EndChange()
	old := m.cfg()
	cfg := m.within(old, m.asked)
	if cfg == old || m.evictor == nil {
		return
	}
	m.conf.Store(cfg)
	_ = m.evictor.SetPolicy(cfg.policy()) // Validate has accepted every part of it
	m.events.Emit(event.Event{
		Kind: event.Limits, Level: slog.LevelInfo,
		Text: "idle connections are pinged more often than by default, because the server closes silent ones",
		Attrs: []slog.Attr{
			slog.Duration("keep_alive", cfg.KeepAlive), slog.Duration("idle_timeout", time.Duration(m.silence.Load())),
		},
	})
}

// warnOfLimits logs what does not fit. Not to be able to ask is no reason not to start.
func (m *manager) warnOfLimits(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg().DialTimeout)
	defer cancel()
	l, err := m.limits(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	if pg, ok := m.back.(*pgxBackend); ok {
		if e, matters := pooler.Event(pg.execMode(), l.TransactionMode); l.Pooled && matters {
			m.events.Emit(e)
		}
	}
	fleet.Warn(m.events, l.Warnings, err,
		slog.Int("demand", l.Demand), slog.Int("granted", l.granted()), slog.Int("on_server", l.OnServer))
}

// granted is how many connections the server grants to ordinary users.
func (l *Limits) granted() int { return max(l.MaxConnections-l.Reserved, 0) }

// judge fills in the demand and the warnings.
func (l *Limits) judge(cfg *config) {
	d := fleet.Of(cfg.MaxOpen, cfg.Instances)
	l.PerInstance, l.Instances, l.Surge, l.Demand = d.PerInstance, d.Instances, d.Surge, d.Total
	warn := func(format string, args ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...)) }

	if l.Pooled {
		return // connections end at the pooler
	}
	if granted := l.granted(); l.MaxConnections > 0 && l.Demand > granted {
		warn("%s; the server grants %d (max_connections %d, %d reserved)", d, granted, l.MaxConnections, l.Reserved)
	}
	if l.UserLimit > 0 && l.Demand > l.UserLimit {
		warn("%s; the server grants this user %d", d, l.UserLimit)
	}
	if w := fleet.Silence("session", l.IdleTimeout, cfg.KeepAlive, cfg.MaxLifetime); w != "" {
		warn("%s", w)
	}
}

// pgLimits is one query, because it is asked at every start. reserved_connections is PostgreSQL
// 16's, and idle_session_timeout 14's.
const pgLimits = `select current_setting('max_connections')::int,
	case when r.rolsuper then 0 else current_setting('superuser_reserved_connections')::int
		+ coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) end,
	r.rolconnlimit, d.datconnlimit,
	(select count(*) from pg_stat_activity where backend_type = 'client backend'),
	coalesce((select setting::bigint from pg_settings where name = 'idle_session_timeout'), 0),
	coalesce(inet_client_port(), 0), pg_backend_pid(),
	case when isfinite(r.rolvaliduntil) then extract(epoch from r.rolvaliduntil)::bigint else 0 end
	from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()`

func (b *pgxBackend) limits(ctx context.Context) (Limits, error) {
	var l Limits
	err := b.probe.Use(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var role, db, idle, port int
		var until int64
		var pid uint32
		// The simple protocol leaves no prepared statement behind in a pooler's session, which
		// another client gets next.
		err := c.QueryRow(ctx, pgLimits, pgx.QueryExecModeSimpleProtocol).
			Scan(&l.MaxConnections, &l.Reserved, &role, &db, &l.OnServer, &idle, &port, &pid, &until)
		if err != nil {
			return err
		}
		l.UserLimit = lower(role, db)
		b.target.Load().passwordUntil(dateOf(until), b.base.cfg())
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

// dateOf returns a date that PostgreSQL has told in seconds; 0 is none.
func dateOf(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC() //nolint:forbidigo // a date of the server's
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
		row, err := oneRow(ctx, n,
			"select @@global.max_connections, @@session.max_user_connections, @@session.wait_timeout", 3)
		if err != nil {
			return err
		}
		status, err := oneRow(ctx, n, "show global status like 'Threads_connected'", 2)
		if err != nil {
			return err
		}
		l.MaxConnections, l.UserLimit, l.OnServer = number(row[0]), number(row[1]), number(status[1])
		l.IdleTimeout = time.Duration(number(row[2])) * time.Second
		return nil
	})
	return l, err
}

// oneRow returns the first row of a query, as text.
func oneRow(ctx context.Context, n *native, query string, columns int) ([]string, error) {
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
