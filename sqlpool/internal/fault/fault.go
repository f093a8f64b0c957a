// Package fault says what the errors of PostgreSQL, MySQL and MariaDB, of their drivers and of
// pgxpool mean.
//
//	err ──▶ Classify ──▶ health.Fault     what kind of failure, and what to look at first
//	    ──▶ ConnectionLevel, RefusesWrites, Judge     what it says about the server
//
// It knows errors only: it refuses to count them, to log them and to act on them.
package fault

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/pooler"
)

// Classify says what kind of failure err is, and what to look at first: PostgreSQL by SQLSTATE,
// MySQL and MariaDB by number, the pool's own errors, and what health.Classify knows. nil is
// health.KindNone.
func Classify(err error) health.Fault {
	if err == nil {
		return health.Fault{}
	}
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		return health.Classify(e)
	}
	if e, ok := errors.AsType[*explained](err); ok {
		return e.Fault
	}
	if errors.Is(err, poolkeeper.ErrAcquireTimeout) || errors.Is(err, poolkeeper.ErrTooManyWaiting) {
		return health.FaultOf(health.KindPoolExhausted)
	}
	if PoolClosed(err) {
		return health.FaultOf(health.KindDraining)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pooler.LostStatement(e) {
			return pooler.Fault()
		}
		if f, ok := ofLogin(e); ok {
			return f
		}
		return ofSQLState(e.Code)
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return ofMySQLNumber(e.Number)
	}
	if errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) {
		return health.FaultOf(health.KindReset)
	}
	if f, ok := ofDriver(err); ok {
		return f
	}
	return health.Classify(err)
}

// PoolClosed recognizes pgxpool's error after Close by its text: the sentinel is puddle's,
// which pgx neither exports nor wraps.
func PoolClosed(err error) bool { return err != nil && err.Error() == "closed pool" }

// refusedTLS recognizes pgconn's error for a server without TLS by its text: it has no type of its
// own.
func refusedTLS(err error) bool {
	e, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok && strings.Contains(e.Error(), "server refused TLS connection")
}

// fault is an error that answers health.Classify.
type wrapped struct{ error }

func (f wrapped) Unwrap() error { return f.error }

// HealthFault makes health.Classify know the driver's error.
func (f wrapped) HealthFault() health.Fault { return Classify(f.error) }

// Wrap wraps a driver's error. Its text and errors.Is and errors.As stay the same.
func Wrap(err error) error {
	if err == nil {
		return nil
	}
	return wrapped{err}
}

// ofSQLState follows PostgreSQL's documentation, Appendix A.
func ofSQLState(code string) health.Fault {
	switch code {
	case "57P01", "57P02": // admin_shutdown, crash_shutdown
		return health.FaultOf(health.KindShuttingDown)
	case "57P03": // cannot_connect_now
		return health.FaultOf(health.KindStarting)
	case "57P05": // idle_session_timeout
		return health.FaultOf(health.KindReset)
	case "57014": // query_canceled
		return health.FaultOf(health.KindCanceled)
	case "53300": // too_many_connections
		return health.FaultOf(health.KindTooManyConnections)
	case "25006": // read_only_sql_transaction
		return health.FaultOf(health.KindReadOnly)
	case "3D000": // invalid_catalog_name
		return health.FaultOf(health.KindNotFound)
	case "42501": // insufficient_privilege
		return health.FaultOf(health.KindAuthorization)
	}
	switch {
	case strings.HasPrefix(code, "28"): // invalid authorization specification
		return health.FaultOf(health.KindAuthentication)
	case strings.HasPrefix(code, "53"), strings.HasPrefix(code, "58"): // insufficient resources, system error
		return health.FaultOf(health.KindResources)
	case strings.HasPrefix(code, "08"): // connection exception
		if code == "08P01" {
			return health.FaultOf(health.KindProtocol)
		}
		return health.FaultOf(health.KindReset)
	default:
		return health.FaultOf(health.KindUnknown)
	}
}

// ofMySQLNumber follows the server error references of MySQL 8 and MariaDB.
func ofMySQLNumber(number uint16) health.Fault {
	switch number {
	case 1040, 1203, 1226: // too many connections: the server's, the user's, the resource limit's
		return health.FaultOf(health.KindTooManyConnections)
	case 1045:
		return accessDenied()
	case 3159, 4152: // insecure transport is prohibited: MySQL's number, and MariaDB's
		return health.Fault{Kind: health.KindTLS, Advice: "the server lets nobody in without TLS: set tls=true in URL, or TLS"}
	case 1698, 1251, 1862, 3118: // access denied, wrong protocol, expired password, locked account
		return health.FaultOf(health.KindAuthentication)
	case 1044, 1142, 1227: // to the database, to the table, missing privilege
		return health.FaultOf(health.KindAuthorization)
	case 1049: // unknown database
		return health.FaultOf(health.KindNotFound)
	case 1053: // shutdown in progress
		return health.FaultOf(health.KindShuttingDown)
	case 1290, 1792, 1836: // read-only server, transaction, mode
		return health.FaultOf(health.KindReadOnly)
	case 1021, 1037, 1038, 1041, 1135: // disk, memory, sort memory, memory, threads
		return health.FaultOf(health.KindResources)
	case 1129, 1130: // host blocked, host not allowed
		return health.FaultOf(health.KindAuthorization)
	case 1317, 1969, 3024: // query interrupted: by KILL, by max_statement_time (MariaDB), by max_execution_time (MySQL)
		return health.FaultOf(health.KindCanceled)
	case 1927, 4031: // connection killed (MariaDB), disconnected for inactivity (MySQL)
		return health.FaultOf(health.KindReset)
	default:
		return health.FaultOf(health.KindUnknown)
	}
}

// ConnectionLevel says whether an error of traffic tells something about the server, or the way
// there.
func ConnectionLevel(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	switch Classify(err).Kind { //nolint:exhaustive // the rest says nothing about the server
	case health.KindShuttingDown, health.KindStarting, health.KindTooManyConnections, health.KindReadOnly,
		health.KindReset,
		health.KindRefused, health.KindUnreachable:
		return true
	default:
		return false
	}
}

// RefusesWrites recognizes the errors of database/sql's drivers with which a server that has been
// demoted, or set read-only, refuses a write. asked says that the caller's own transaction is
// read-only, which is no news about the server.
func RefusesWrites(err error, asked bool) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch e.Number {
		case 1836:
			return true
		case 1290: // "running with the --read-only option", and other options that are not meant here
			return strings.Contains(strings.ToLower(e.Message), "read")
		case 1792:
			return !asked
		}
		return false
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == ReadOnlyTransaction && !asked
}

const (
	// ReadOnlyTransaction is the SQLSTATE of a write that a read-only server or session refuses.
	ReadOnlyTransaction = "25006"
	notSupported        = "0A000"
)

// PGRefusesWrites recognizes the refusals that are news about the server: it was demoted, or set
// read-only. Since PostgreSQL 14 the server keeps its clients informed of both ways in which it can
// be read-only by itself; if neither holds, the session asked to be read-only. A standby calls some
// statements not supported that a primary executes.
func PGRefusesWrites(c *pgconn.PgConn, e *pgconn.PgError) bool {
	standby := c.ParameterStatus("in_hot_standby")
	switch e.Code {
	case ReadOnlyTransaction:
		return standby != "off" || c.ParameterStatus("default_transaction_read_only") != "off"
	case notSupported:
		return standby == "on"
	default:
		return false
	}
}

// AlreadyClosed recognizes the error of closing a connection that the server had closed already.
// The connection is closed, so this is no failure. The MySQL driver's own error is not exported.
func AlreadyClosed(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		err != nil && err.Error() == "bad connection"
}

// Judge says what the error of a dial or a trial means for the breaker. A server that runs has
// answered, whatever it said; one that is starting or shutting down is as good as gone.
func Judge(err error) breaker.Verdict {
	if errors.Is(err, poolkeeper.ErrDown) {
		return breaker.Unknown // nothing was tried
	}
	kind := Classify(err).Kind
	switch kind { //nolint:exhaustive // the rest is an answer, or the caller's
	case health.KindRefused, health.KindStarting, health.KindShuttingDown, health.KindReset:
		return breaker.Refused
	case health.KindTimeout, health.KindUnreachable, health.KindDNS:
		return breaker.Silent
	case health.KindCanceled:
		return breaker.Unknown
	case health.KindUnknown:
		_, pg := errors.AsType[*pgconn.PgError](err)
		_, my := errors.AsType[*mysql.MySQLError](err)
		if !pg && !my {
			return breaker.Unknown // a hook of the user's, or a driver's own error
		}
	}
	return breaker.Answered
}
