package sqlpool

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// errLost stands for the errors of a connection that its driver gave up while a caller had it:
// those of statements and rows do not pass through here.
var errLost = errors.New("sqlpool: a connection was lost in use")

// noteReturned draws conclusions from how a connection came back.
func (b *dbBackend) noteReturned(c *conn, ok bool, now time.Time) {
	switch {
	case ok:
		b.base.observer.Succeeded()
	case !c.given:
		b.base.noteDiedInUse(c.cause(), now)
		b.base.observer.Observe(errLost)
	}
	c.last, c.lastErr, c.readOnly = nil, nil, false
}

// noteFailed looks at the error of an operation: what says something about the server, or the way
// there, is passed on.
func (b *dbBackend) noteFailed(c *conn, err error) {
	refused := c.refusedWrite(err)
	if refused || fault.ConnectionLevel(err) && fault.Classify(err).Kind != health.KindReadOnly {
		b.base.observer.Observe(err)
	}
	if refused {
		b.base.noteRefusedWrite(b, c.n.generation, err)
	}
}

// refusedWrite reports whether err says that the server is read-only, and not only the session.
func (c *conn) refusedWrite(err error) bool {
	if pg, ok := c.n.Native.(*stdlib.Conn); ok {
		e, ok := errors.AsType[*pgconn.PgError](err)
		return ok && fault.PGRefusesWrites(pg.Conn().PgConn(), e)
	}
	return fault.RefusesWrites(err, c.readOnly)
}
