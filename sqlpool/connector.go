package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// errNothingIdle is what a sweep gets when it asks for one more idle connection than there is.
var errNothingIdle = errors.New("sqlpool: nothing is idle")

// dbConnector is the connector that database/sql sees. With it the pool sees every checkout and
// check-in of an unchanged *sql.DB.
type dbConnector struct{ b *dbBackend }

// Driver returns the driver's own.
func (w dbConnector) Driver() driver.Driver { return w.b.connectorNow().Driver() }

// Connect is a checkout for which database/sql has nothing idle. It queues behind callers that
// asked before.
func (w dbConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if _, ok := ctx.(*sweepContext); ok {
		return nil, errNothingIdle // a sweep wants idle connections, not new ones
	}
	s := w.b
	if !s.base.gate.Enter() {
		return nil, s.base.refusal()
	}
	start := s.since(time.Now())
	n, err := s.acquire(ctx, start)
	now := time.Now()
	if err != nil {
		s.base.gate.Leave()
		return nil, err
	}
	s.base.evictor.Wake()
	s.base.metrics.wait.Record(now.Sub(start))
	s.base.held.HoldAt(&n.entry, poolkeeper.KindConn, now)
	return s.wrap(n), nil
}

// Close ends the backend. database/sql calls it at the end of every DB.Close.
func (w dbConnector) Close() error {
	err := w.b.shut()
	errs := []error{err, w.b.handleClosed()}
	if c, ok := w.b.connectorNow().(io.Closer); ok {
		errs = append(errs, w.b.base.guarded("the connector's Close", c.Close))
	}
	return errors.Join(errs...)
}
