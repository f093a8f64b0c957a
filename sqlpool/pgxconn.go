package sqlpool

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// customKey is where a connection's record lies in its PgConn().CustomData().
const customKey = "poolkeeper.sqlpool"

// pgxConn is what the pool knows of one connection. The connection refers to it, and not the other
// way round: of a connection that was hijacked, only the garbage collector knows when it is gone.
type pgxConn struct {
	times // used and seen are guarded by the backend's mutex, the rest does not change once it is connected

	sock   net.Conn   // below TLS
	dialer *pgxDialer // nil: it was not opened by the pool's own tracer
	entry  holders.Entry

	// Owned by the goroutine that acquires or holds the connection.
	at      time.Time // of the acquisition under way; zero: it has taken time
	lastErr error     // of the last query that failed
	hookErr error     // of the user's ShouldPing: the acquisition under way fails with it
	met     bool      // an acquisition, or a fill, has been offered it
	allIdle bool      // the user's AcquireAllIdle has it

	demoted atomic.Bool // a refused write was noted, and the call that met it has not ended

	// guarded by the backend's mutex
	reason string // why it is being closed
	owes   bool   // its permit is given back when it is closed

	releasing  bool // the user's AfterRelease runs: it keeps its permit
	discounted bool // it is not counted as open any more, and about to be closed

	reclaimed, returned bool // taken away from its holder; the holder has released it

	candidate bool // it was held when a connection was hijacked, and may be that one
	gone      bool // it is out of the books: it was hijacked
}

func connOf(c *pgconn.PgConn) *pgxConn {
	r, _ := c.CustomData()[customKey].(*pgxConn)
	return r
}

// retireLocked says why a connection that a caller returns at now must not become idle, and notes
// it.
func (b *pgxBackend) retireLocked(r *pgxConn, now time.Time) (stale bool) {
	reason := b.base.stale(&r.times, now)
	if reason == "" {
		return false
	}
	r.owes, r.reason = true, reason
	return true
}
