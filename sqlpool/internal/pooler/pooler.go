// Package pooler finds out what a pooler such as pgbouncer does to the sessions of PostgreSQL, and
// says what to set for it.
//
//	client ── pooler ──▶ a session of the server for each client, or for each transaction
//
// In transaction mode the state of a session is lost after each transaction, or is another
// client's. That hits prepared statements above all, which pgx makes for every query by default.
// The package knows no pool, and changes no setting.
package pooler

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

// remedy is what to do about it. `exec` sends a query and its arguments in one round trip,
// unprepared.
const remedy = "set default_query_exec_mode=exec in the URL, " +
	"or raise max_prepared_statements of pgbouncer 1.21 or later"

// SharesSessions reports whether a pooler gives a session to another client after each transaction.
// first is the session on which another client, which is still connected, was answered, by its
// process ID. Only a pooler that has taken that session back gives it to second. It leaves second
// in a transaction.
func SharesSessions(ctx context.Context, second *pgx.Conn, first uint32) (bool, error) {
	if _, err := second.Exec(ctx, "begin", pgx.QueryExecModeSimpleProtocol); err != nil {
		if _, answered := errors.AsType[*pgconn.PgError](err); answered {
			return true, nil // statement mode refuses transactions
		}
		return false, err
	}
	var pid uint32
	err := second.QueryRow(ctx, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid == first, err
}

// prepares reports whether pgx relies in this mode on a statement that it prepared in an earlier
// round trip.
func prepares(mode pgx.QueryExecMode) bool {
	switch mode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec:
		return true
	case pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
	}
	return false
}

// Event says what to set for a pooler that stands before PostgreSQL. It reports false if pgx works
// with every pooler in this mode. transactionMode says that the pooler shares sessions; if not, its
// mode is not known.
func Event(mode pgx.QueryExecMode, transactionMode bool) (event.Event, bool) {
	if !prepares(mode) {
		return event.Event{}, false
	}
	e := event.Event{
		Kind: event.Pooler, Level: slog.LevelInfo, Text: "a pooler stands before PostgreSQL; its mode is not known",
		Attrs: []slog.Attr{slog.String("query_exec_mode", mode.String()), slog.String("advice", remedy)},
	}
	if transactionMode {
		e.Level = slog.LevelWarn
		e.Text = "a pooler in transaction mode stands before PostgreSQL: " +
			"queries that pgx prepares fail unless the pooler follows them"
	}
	return e, true
}

// LostStatement reports whether PostgreSQL refused a query because the session is not the one in
// which the statement was prepared.
func LostStatement(e *pgconn.PgError) bool {
	switch e.Code {
	case "26000", "42P05": // invalid_sql_statement_name, duplicate_prepared_statement
		return true
	case "08P01": // protocol_violation: another statement of the same name
		return strings.Contains(e.Message, "prepared statement")
	}
	return false
}

// Explain adds to the error of a lost statement what to do, if a pooler is known to be there. err
// is the one that the caller gets.
func Explain(err error, mode pgx.QueryExecMode) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if ok && LostStatement(e) && prepares(mode) && !strings.Contains(e.Message, remedy) {
		e.Message += " (a pooler stands before PostgreSQL: " + remedy + ")"
	}
}

// Fault is the health.Fault of a lost statement.
func Fault() health.Fault {
	return health.Fault{
		Kind:   health.KindProtocol,
		Advice: "a prepared statement is gone, as behind a pooler in transaction mode: " + remedy,
	}
}
