package fault

import (
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// explained is an error of a first connection, and what was found out about the server afterwards.
type explained = peer.ExplainedError[health.Fault]

// Explained adds to the error of a first connection how the server differs from the one expected.
func Explained(err error, found peer.Mismatch) error {
	f := health.Fault{Kind: health.KindProtocol, Advice: found.Advice}
	if found.TLS {
		f.Kind = health.KindTLS
	}
	return &explained{Err: err, Finding: found.Finding, Fault: f}
}

// Unclear reports whether err may come of a server that speaks another protocol, or TLS where the
// client does not. A server that has answered in its protocol is the right one.
func Unclear(err error) bool {
	if answered(err) || peer.Settled(err) {
		return false
	}
	switch Classify(err).Kind { //nolint:exhaustive // the rest is clear
	case health.KindTimeout, health.KindReset, health.KindProtocol, health.KindTLS, health.KindUnknown:
		return true
	default:
		return false
	}
}

func answered(err error) bool {
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return true
	}
	_, ok := errors.AsType[*mysql.MySQLError](err)
	return ok
}

const noCertificate = "the server demands a client certificate, and none was presented: " +
	"set TLSFiles.Cert and TLSFiles.Key"

// ofLogin is for logins that PostgreSQL refuses (SQLSTATE 28000) because of how the connection was
// opened. The server has no code for that.
func ofLogin(e *pgconn.PgError) (health.Fault, bool) {
	switch {
	case e.Code != "28000":
		return health.Fault{}, false
	case strings.Contains(e.Message, "requires a valid client certificate"):
		return health.Fault{Kind: health.KindAuthentication, Advice: noCertificate + ", or sslcert and sslkey in URL"}, true
	case strings.Contains(e.Message, "no pg_hba.conf entry") && strings.Contains(e.Message, "no encryption"):
		return health.Fault{
			Kind: health.KindTLS,
			Advice: "pg_hba.conf has no entry without TLS for this user and database: set sslmode=require in URL, or TLS; " +
				"or add an entry",
		}, true
	case strings.Contains(e.Message, "no pg_hba.conf entry"):
		return health.Fault{
			Kind:   health.KindAuthentication,
			Advice: "pg_hba.conf has no entry for this user, database and client address: add one",
		}, true
	}
	return health.Fault{}, false
}

// accessDenied is what MySQL and MariaDB say (1045) for a wrong password, for a connection without
// TLS of a user that has REQUIRE SSL, and for one without a certificate of a user with REQUIRE X509.
// MariaDB says it for require_secure_transport, too.
func accessDenied() health.Fault {
	return health.Fault{
		Kind: health.KindAuthentication,
		Advice: "the server rejects the login: check user and password, and whether the user must use TLS (REQUIRE SSL, require_secure_transport: set tls=true in URL) " +
			"or a client certificate (REQUIRE X509: set TLSFiles.Cert and TLSFiles.Key)",
	}
}

// ofDriver is for errors that the drivers find themselves.
func ofDriver(err error) (health.Fault, bool) {
	switch {
	case refusedTLS(err):
		return health.Fault{Kind: health.KindTLS, Advice: "the server refuses TLS: turn it on there, or set sslmode=disable in URL and leave TLS empty"}, true
	case errors.Is(err, mysql.ErrNoTLS):
		return health.Fault{Kind: health.KindTLS, Advice: "the server has no TLS: turn it on there, or set tls=false in URL and leave TLS empty"}, true
	case errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync), errors.Is(err, mysql.ErrPktSyncMul),
		errors.Is(err, mysql.ErrOldProtocol), strings.HasPrefix(err.Error(), "unsupported protocol version"):
		return health.FaultOf(health.KindProtocol), true
	}
	return health.Fault{}, false
}
