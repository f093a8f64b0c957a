package sqlpool

import (
	"database/sql/driver"
	"net"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// Native returns the driver's own connection behind the value that [database/sql.Conn.Raw] passes to its function.
// Under NewDB and NewMySQL that value is a wrapper; any other value is returned as it is, so that the same code works
// on every *sql.DB:
//
//	conn.Raw(func(c any) error {
//		mc := sqlpool.Native(c).(interface{ ... })
//		...
//	})
func Native(driverConn any) any {
	if w, ok := driverConn.(wrapper); ok {
		return w.base().n.conn
	}
	return driverConn
}

// wrapper is any of the four connection types that database/sql gets.
type wrapper interface{ base() *conn }

// native is one connection of the driver, and what the pool knows of it. It outlives its wrapper where it goes
// straight from one caller to the next.
type native struct {
	capabilities

	conn  driver.Conn
	sock  net.Conn // nil where it is out of reach
	born  time.Time
	draw  float64 // of its lifetime's jitter
	entry holders.Entry

	// guarded by the store's mutex
	used   time.Time // when a caller returned it last; when it was opened, if none has
	seen   time.Time // when it last gave a sign of life
	reused bool      // a caller has had it before: its session is to be reset
}
