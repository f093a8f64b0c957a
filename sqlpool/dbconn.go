package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

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
		s.base.metrics.countRefusal(err)
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

// conn is what database/sql holds in place of the driver's connection. It sees each checkout
// (Connect or ResetSession) and each check-in (IsValid or Close).
//
//	         Connect                        IsValid: true
//	queue ──────────────▶ in use ◀──────────────────────────▶ idle ──sweep──▶ swept
//	  ▲                      │        ResetSession              │               │
//	  └──── handed over ── leaving ◀────────── Close ───────────┴───────────────┘
//
// database/sql never uses one connection concurrently, except that Stmt.Close may run on an idle
// one.
type conn struct {
	b *dbBackend
	n *native

	// Owned by the goroutine that holds the connection.
	dead     bool            // it must not be used again
	given    bool            // that is so for a reason of its own, and says nothing about the server
	bound    context.Context //nolint:containedctx // by QueryTimeout, of the rows that are read; nil: there are none
	unbind   context.CancelFunc
	last     context.Context //nolint:containedctx // of the last operation, to tell whether the caller ended it
	lastErr  error           // of the last operation that failed
	readOnly bool            // its transaction was asked to be read-only

	// guarded by s.mu
	state    connState
	handOver bool   // Close passes n on to the first waiter
	reason   string // why Close is to close n: one of poolkeeper's Evicted constants
}

type connState int

const (
	stateInUse     connState = iota
	stateIdle                // in database/sql's free list, or on its way there
	stateSwept               // taken out by the evictor
	stateReclaimed           // taken away from its holder, which has not released it yet
	stateLeaving             // refused at check-in or checkout; Close follows
	stateClosed
)

func (c *conn) base() *conn { return c }

// Unwrap returns the driver's own connection, by the name under which drivers look for it.
func (c *conn) Unwrap() driver.Conn { return c.n.Native }

// ResetSession is a checkout. database/sql heeds no error of it but ErrBadConn, and then asks
// another connection and at last Connect, which can tell the caller why.
func (c *conn) ResetSession(ctx context.Context) error {
	if _, ok := ctx.(*sweepContext); ok {
		return c.b.checkOutForSweep(c)
	}
	if c.b.base.down() != nil {
		c.b.refuse(c)
		return driver.ErrBadConn // Connect will say why
	}
	now := time.Now()
	if !c.b.checkOut(c, now) {
		return driver.ErrBadConn
	}
	if !c.b.usable(ctx, c.n, now) {
		c.dead, c.given = true, true // found out before it was used
		c.b.lookedFrom(now)
		return driver.ErrBadConn
	}
	c.b.base.metrics.wait.Record(0)
	c.b.base.held.HoldAt(&c.n.entry, poolkeeper.KindConn, now)
	return nil
}

// IsValid is a check-in.
func (c *conn) IsValid() bool {
	c.unbound()
	ok := !c.dead && c.n.valid(c.b.base)
	return c.b.checkIn(c, ok)
}

// Close follows a refused check-in, or comes instead of one after ErrBadConn, or ends an idle
// connection.
func (c *conn) Close() error {
	c.unbound()
	return c.b.closeConn(c)
}

// Ping without a Pinger is what it is in database/sql: nil.
func (c *conn) Ping(ctx context.Context) error {
	if c.n.Pinger == nil {
		return nil
	}
	err := c.n.Pinger.Ping(c.bounded(ctx))
	c.unbound()
	c.after(ctx, err)
	return err
}

func (c *conn) Prepare(query string) (driver.Stmt, error) { return c.n.Native.Prepare(query) }

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	native, err := c.n.Prepare(c.bounded(ctx), query)
	c.unbound()
	c.after(ctx, err)
	if err != nil {
		return nil, err
	}
	return c.wrapStmt(native), nil
}

// Begin is never called by database/sql, because there is BeginTx.
func (c *conn) Begin() (driver.Tx, error) {
	return c.n.Native.Begin() //nolint:staticcheck // part of driver.Conn
}

// BeginTx returns the driver's own transaction, but for one case. Since the wrapper has both
// SessionResetter and Validator, database/sql returns a connection to the pool after a transaction
// was rolled back by its context. Where the driver lacks either, it must be closed instead, as it
// would be without the wrapper.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.beginTx(ctx, opts)
	c.after(ctx, err)
	c.readOnly = opts.ReadOnly
	if err == nil && c.b.base.cfg().QueryTimeout > 0 {
		tx = &timedTx{Tx: tx, ctx: ctx, conn: c}
	}
	if err == nil && (c.n.Resetter == nil || c.n.Validator == nil) {
		return &discardingTx{Tx: tx, ctx: ctx, conn: c}, nil
	}
	return tx, err
}

func (c *conn) beginTx(ctx context.Context, opts driver.TxOptions) (tx driver.Tx, err error) {
	if _, has := ctx.Deadline(); has {
		c.unbound()
		return c.n.Begin(ctx, opts)
	}
	err = c.cutAfter(func() error {
		tx, err = c.n.Begin(ctx, opts)
		return err
	})
	return tx, err
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error { return c.n.CheckNamedValue(v) }

func (c *conn) query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.n.Query(c.bounded(ctx), query, args)
	c.after(ctx, err)
	return rows, err
}

func (c *conn) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	pg, _ := c.n.Native.(*stdlib.Conn)
	open := pg != nil && !pg.Conn().IsClosed()
	res, err := c.n.Exec(c.bounded(ctx), query, args)
	if open && len(args) == 0 && errors.Is(err, driver.ErrBadConn) && pg.Conn().IsClosed() {
		c.dead, err = true, lostError{}
	}
	c.unbound()
	c.after(ctx, err)
	return res, err
}

// discardingTx condemns its connection when its context rolls it back.
type discardingTx struct {
	driver.Tx

	ctx  context.Context //nolint:containedctx // the transaction's own, as in database/sql
	conn *conn
}

func (t *discardingTx) Rollback() error {
	if t.ctx.Err() != nil {
		t.conn.dead, t.conn.given = true, true
	}
	return t.Tx.Rollback()
}

// database/sql behaves differently only by whether a connection has Queryer and Execer; so there
// are four types.
type (
	connPlain  struct{ conn }
	connQuery  struct{ conn }
	connExec   struct{ conn }
	connDirect struct{ conn }
)

func (c *connQuery) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, query, args)
}

func (c *connExec) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, query, args)
}

func (c *connDirect) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, query, args)
}

func (c *connDirect) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, query, args)
}

// wrap makes a wrapper around n, in use.
func (b *dbBackend) wrap(n *native) driver.Conn {
	var out interface {
		driver.Conn
		wrapper
	}
	switch queries, executes := n.Queries(), n.Executes(); {
	case queries && executes:
		out = &connDirect{conn{b: b, n: n}}
	case queries:
		out = &connQuery{conn{b: b, n: n}}
	case executes:
		out = &connExec{conn{b: b, n: n}}
	default:
		out = &connPlain{conn{b: b, n: n}}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n.in = out.base()
	return out
}
