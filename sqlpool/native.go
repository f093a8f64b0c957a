package sqlpool

import (
	"net"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/driverconn"
)

// Native returns the driver's own connection. It takes the value that [database/sql.Conn.Raw]
// passes to its function. That value is a wrapper, whose Unwrap method returns the same connection.
// Native returns any other value unchanged, so that the same code works on every *sql.DB:
//
//	conn.Raw(func(c any) error {
//		mc := sqlpool.Native(c).(interface{ ... })
//		...
//	})
func Native(driverConn any) any {
	if w, ok := driverConn.(wrapper); ok {
		return w.base().n.Native
	}
	if w, ok := driverConn.(*pgxSQLConn); ok {
		return w.Conn
	}
	return driverConn
}

// wrapper is any of the four connection types that database/sql gets.
type wrapper interface{ base() *conn }

// native is one connection of the driver, and what the pool knows of it. It outlives its wrapper
// where it goes straight from one caller to the next.
type native struct {
	driverconn.Conn
	times // used and seen are guarded by the backend's mutex, the rest does not change

	sock  net.Conn        // nil where it is out of reach
	login *rotation.Login // by what it was opened, until that has been noted
	entry holders.Entry
	in    *conn     // the wrapper it is in; nil between two; guarded by the backend's mutex
	aged  bool      // it has been used, or idle: it is to be reset, which is when drivers look whether it still lives; guarded by the backend's mutex
	reset time.Time // when a caller last had it reset; owned by the caller that has the connection
}
