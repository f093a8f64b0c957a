package sqlpool

import (
	"context"
	"database/sql/driver"
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

func (s *store) resets(ctx context.Context, n *native) bool {
	return n.resetter == nil || !errors.Is(n.resetter.ResetSession(ctx), driver.ErrBadConn)
}

// proves pings a connection if it is suspect, and reports false if it is not to be used.
func (s *store) proves(ctx context.Context, n *native) bool {
	if n.pinger == nil || !s.core.suspect(&n.times) {
		return true
	}
	ping, cancel := context.WithTimeout(ctx, s.core.cfg().SuspectPing)
	defer cancel()
	if n.pinger.Ping(ping) == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		n.seen = time.Now()
		return true
	}
	if ctx.Err() == nil { // else it is the caller who had no time
		s.core.pingedInVain()
	}
	return false
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
