package sqlpool

import (
	"errors"
	"time"
)

// errLost stands for the errors of a connection that its driver gave up while a caller had it: those of statements
// and rows do not pass through here.
var errLost = errors.New("sqlpool: a connection was lost in use")

// returned draws conclusions from how a connection came back.
func (s *store) returned(c *conn, ok bool, now time.Time) {
	switch {
	case ok:
		s.core.observer.Observe(nil)
	case !c.given:
		s.core.diedInUse(c.cause(), now)
		s.core.observer.Observe(errLost)
	}
	c.last, c.lastErr, c.readOnly = nil, nil, false
}

// failed looks at the error of an operation: what says something about the server, or the way there, is passed on.
func (s *store) failed(c *conn, err error) {
	if connectionLevel(err) {
		s.core.observer.Observe(err)
	}
	if refusesWrites(err, c.readOnly) {
		s.core.refusedWrite(c.n.generation, err)
	}
}
