package sqlpool

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// A pooler such as pgbouncer stands between the pool and PostgreSQL, and hands a session of the
// server to each client. In transaction mode it does so for one transaction at a time. Afterwards
// the state of that session is lost, or another client's. That hits prepared statements above all,
// which pgx makes for every query by default.

// poolerRemedy is what to do about it. `exec` sends a query and its arguments in one round trip,
// unprepared.
const poolerRemedy = "set default_query_exec_mode=exec in the URL, or raise max_prepared_statements of pgbouncer 1.21 or later"

// sharesSessions reports whether a pooler gives a session to another client after each transaction.
// first is the session that a client which is still connected was answered on, by its process ID:
// only a pooler that has taken it back gives it to a second client.
func (b *pgBackend) sharesSessions(ctx context.Context, first uint32) (bool, error) {
	second, err := b.dialCheck(ctx)
	if err != nil {
		return false, err
	}
	defer b.hangUp(ctx, second)
	if _, err = second.Exec(ctx, "begin", pgx.QueryExecModeSimpleProtocol); err != nil {
		if _, answered := errors.AsType[*pgconn.PgError](err); answered {
			return true, nil // statement mode refuses transactions
		}
		return false, err
	}
	var pid uint32
	err = second.QueryRow(ctx, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid == first, err
}

// prepares reports whether pgx, as it is configured, relies on a statement that it prepared in an
// earlier round trip.
func (b *pgBackend) prepares() bool {
	switch b.aimed.Load().native.ConnConfig.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec:
		return true
	case pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
	}
	return false
}

// warnOfPooler says what to set for the pooler that l has found.
func (b *pgBackend) warnOfPooler(l *Limits) {
	if !l.Pooled || !b.prepares() {
		return
	}
	e := event.Event{Kind: event.Pooler, Level: slog.LevelInfo, Text: "a pooler stands before PostgreSQL; its mode is not known"}
	if l.TransactionMode {
		e.Level = slog.LevelWarn
		e.Text = "a pooler in transaction mode stands before PostgreSQL: queries that pgx prepares fail unless the pooler follows them"
	}
	e.Attrs = []slog.Attr{
		slog.String("query_exec_mode", b.aimed.Load().native.ConnConfig.DefaultQueryExecMode.String()), slog.String("advice", poolerRemedy),
	}
	b.core.events.Emit(e)
}

// lostStatement reports whether PostgreSQL refused a query because the session is not the one in
// which the statement was prepared.
func lostStatement(e *pgconn.PgError) bool {
	switch e.Code {
	case "26000", "42P05": // invalid_sql_statement_name, duplicate_prepared_statement
		return true
	case "08P01": // protocol_violation: another statement of the same name
		return strings.Contains(e.Message, "prepared statement")
	}
	return false
}

// explainPooler adds to the error of a lost statement what to do, once a pooler is known to be
// there. err is the one that the caller gets.
func (b *pgBackend) explainPooler(err error) {
	if !b.pooled.Load() {
		return
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if ok && lostStatement(e) && b.prepares() && !strings.Contains(e.Message, poolerRemedy) {
		e.Message += " (a pooler stands before PostgreSQL: " + poolerRemedy + ")"
	}
}

// poolerFault is the health.Fault of a lost statement.
func poolerFault() health.Fault {
	return health.Fault{
		Kind:   health.KindProtocol,
		Advice: "a prepared statement is gone, as behind a pooler in transaction mode: " + poolerRemedy,
	}
}
