package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool/internal/driverconn"
)

// stmt is a prepared statement of the driver, wrapped only to see how its executions end: most
// queries with arguments of go-sql-driver/mysql go this way.
type stmt struct {
	driverconn.Stmt

	c *conn
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	res, err := s.Stmt.ExecContext(s.c.bounded(ctx), args)
	s.c.unbound()
	s.c.after(ctx, err)
	return res, err
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.Stmt.QueryContext(s.c.bounded(ctx), args)
	s.c.after(ctx, err)
	return rows, err
}

// database/sql behaves differently by whether a statement checks named values and converts columns;
// so there are four types.
type (
	stmtChecking struct {
		stmt

		checker driver.NamedValueChecker
	}
	stmtConverting struct {
		stmt

		converter driver.ColumnConverter //nolint:staticcheck // old drivers have it
	}
	stmtBoth struct {
		stmtChecking

		converter driver.ColumnConverter //nolint:staticcheck // old drivers have it
	}
)

func (s *stmtChecking) CheckNamedValue(v *driver.NamedValue) error {
	return s.checker.CheckNamedValue(v)
}

func (s *stmtConverting) ColumnConverter(i int) driver.ValueConverter {
	return s.converter.ColumnConverter(i)
}

func (s *stmtBoth) ColumnConverter(i int) driver.ValueConverter {
	return s.converter.ColumnConverter(i)
}

// wrapStmt makes a wrapper around a statement that was prepared on c.
func (c *conn) wrapStmt(native driver.Stmt) driver.Stmt {
	s := stmt{Stmt: driverconn.StmtOf(native), c: c}
	checker, checks := native.(driver.NamedValueChecker)
	converter, converts := native.(driver.ColumnConverter) //nolint:staticcheck // old drivers have it
	switch {
	case checks && converts:
		return &stmtBoth{stmtChecking{s, checker}, converter}
	case checks:
		return &stmtChecking{s, checker}
	case converts:
		return &stmtConverting{s, converter}
	default:
		return &s
	}
}

// timedError is the error of a statement whose connection was cut by QueryTimeout. It matches
// context.DeadlineExceeded. It never matches driver.ErrBadConn, because database/sql would then
// send the statement again, and the server may have run it.
type timedError struct {
	limit time.Duration
	text  string // of the driver's error
}

func (e *timedError) Error() string {
	return fmt.Sprintf("sqlpool: QueryTimeout of %s is over; the server may have run the statement all the same: %s",
		e.limit, e.text)
}

func (e *timedError) Timeout() bool { return true }

func (e *timedError) Temporary() bool { return false }

func (e *timedError) Is(target error) bool { return target == context.DeadlineExceeded }

// bounded returns ctx, or if it has no deadline a context that ends with QueryTimeout. That lasts
// until the connection is next used, or checked in: rows are read under it.
func (c *conn) bounded(ctx context.Context) context.Context {
	limit := c.b.base.cfg().QueryTimeout
	c.unbound()
	if limit <= 0 {
		return ctx
	}
	if _, has := ctx.Deadline(); has {
		return ctx
	}
	c.bound, c.unbind = context.WithTimeout(ctx, limit)
	return c.bound
}

// unbound ends what bounded has begun.
func (c *conn) unbound() {
	if c.bound == nil {
		return
	}
	if c.lastErr == nil && errors.Is(c.bound.Err(), context.DeadlineExceeded) {
		c.lastErr = context.DeadlineExceeded // rows end without a word
	}
	c.unbind()
	c.bound, c.unbind = nil, nil
}

// cutAfter runs f, by which a transaction begins or ends, and closes the socket under it if that
// takes longer than QueryTimeout: drivers take no context for its end, and may keep that of its
// beginning. Where the socket is out of reach f is not bounded.
func (c *conn) cutAfter(f func() error) error {
	limit := c.b.base.cfg().QueryTimeout
	c.unbound()
	if limit <= 0 || c.n.sock == nil {
		return f()
	}
	cut := time.AfterFunc(limit, func() { c.b.base.cut(c.n.sock) })
	err := f()
	if cut.Stop() {
		return err
	}
	c.dead = true
	if err == nil {
		return nil // it was done just in time
	}
	return &timedError{limit, err.Error()}
}

// timedTx bounds Commit and Rollback.
type timedTx struct {
	driver.Tx

	ctx  context.Context //nolint:containedctx // the transaction's own, as in database/sql
	conn *conn
}

func (t *timedTx) Commit() error { return t.end(t.Tx.Commit) }

func (t *timedTx) Rollback() error { return t.end(t.Tx.Rollback) }

// end bounds f also if the transaction's context has a deadline: database/sql rolls back when that
// is over.
func (t *timedTx) end(f func() error) error {
	err := t.conn.cutAfter(f)
	if _, ok := errors.AsType[*timedError](err); ok {
		t.conn.after(t.ctx, err)
	}
	return err
}
