package sqlpooltest

import (
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// faults are the ways in which a server misbehaves from now on. Its zero value is a healthy server.
type faults struct {
	hang           chan struct{} // closed when it ends; nil: none
	slow           time.Duration
	garbage        bool
	readOnly       bool
	standby        bool
	lag            time.Duration
	maxConnections int
	login          *pgconn.PgError
	query          *pgconn.PgError
}

// Refuse takes the server away, as a crash does: connections are closed, and new ones refused,
// until Heal.
func (s *PostgresServer) Refuse() {
	s.RefuseNew()
	s.Drop()
}

// RefuseNew refuses new connections, as if no server were running, until Heal. Clients that are
// connected stay.
func (s *PostgresServer) RefuseNew() {
	s.mu.Lock()
	l := s.listener
	s.listener, s.refusing = nil, true
	s.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}

// RefuseLogins answers every new connection with a FATAL error: 28P01 for a wrong password, 57P03
// for a server that is still starting.
func (s *PostgresServer) RefuseLogins(sqlState, message string) {
	s.fault(func(f *faults) { f.login = &pgconn.PgError{Severity: "FATAL", Code: sqlState, Message: message} })
}

// MaxConnections makes the server refuse every login beyond n with 53300, too_many_connections.
// Clients that are connected stay. The pool's check has a connection too. 0: no limit.
func (s *PostgresServer) MaxConnections(n int) { s.fault(func(f *faults) { f.maxConnections = n }) }

// Hang makes the server fall silent: it accepts connections and takes what it is sent, and answers
// nothing, on no connection. After Heal it answers what it was asked meanwhile.
func (s *PostgresServer) Hang() {
	s.fault(func(f *faults) {
		if f.hang == nil {
			f.hang = make(chan struct{})
		}
	})
}

// Slow makes every statement take d. A cancel request ends the wait, as it does a real one's.
func (s *PostgresServer) Slow(d time.Duration) { s.fault(func(f *faults) { f.slow = d }) }

// ReadOnly makes the server refuse what writes, with 25006, as after a failover that left its
// clients on the wrong side.
func (s *PostgresServer) ReadOnly() { s.fault(func(f *faults) { f.readOnly = true }) }

// Standby makes the server a standby that is behind its primary by lag: it refuses what writes, and
// tells package replica how far behind it is.
func (s *PostgresServer) Standby(lag time.Duration) {
	s.fault(func(f *faults) { f.readOnly, f.standby, f.lag = true, true, lag })
}

// FailQueries makes every statement but the pool's own and those that end a transaction fail.
func (s *PostgresServer) FailQueries(sqlState, message string) {
	s.fault(func(f *faults) { f.query = &pgconn.PgError{Severity: "ERROR", Code: sqlState, Message: message} })
}

// Garbage makes the server answer everything with bytes that are none of the protocol's, and hang
// up.
func (s *PostgresServer) Garbage() { s.fault(func(f *faults) { f.garbage = true }) }

// Heal ends every fault: the server accepts, answers, and is a primary again. Connections that were
// lost stay lost.
func (s *PostgresServer) Heal() {
	s.mu.Lock()
	if s.faults.hang != nil {
		close(s.faults.hang)
	}
	s.faults, s.refusing = faults{}, false
	listening := s.listener != nil || s.stopped || s.memory
	s.mu.Unlock()
	if !listening {
		if err := s.listen(s.addr); err != nil {
			s.tb.Errorf("sqlpooltest: heal: %v", err)
		}
	}
}

// Terminate ends every connection there is with 57P01, as pg_terminate_backend or an orderly
// shutdown does. New ones are accepted.
func (s *PostgresServer) Terminate() {
	message := errorResponse(&pgconn.PgError{
		Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command",
	})
	wire, err := message.Encode(nil)
	if err != nil {
		s.tb.Errorf("sqlpooltest: terminate: %v", err)
	}
	for _, c := range s.sessionsNow() {
		c.hangUpWith(wire)
	}
}

// Drop closes every connection there is without a word, as a crash or a proxy does. New ones are
// accepted.
func (s *PostgresServer) Drop() {
	for _, c := range s.sessionsNow() {
		c.hangUp()
	}
}

func (s *PostgresServer) fault(change func(*faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

func (s *PostgresServer) faultsNow() faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

func errorResponse(e *pgconn.PgError) *pgproto3.ErrorResponse {
	severity := e.Severity
	if severity == "" {
		severity = "ERROR"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint,
		SchemaName: e.SchemaName, TableName: e.TableName, ColumnName: e.ColumnName, DataTypeName: e.DataTypeName,
		ConstraintName: e.ConstraintName, Position: e.Position, Where: e.Where,
	}
}
