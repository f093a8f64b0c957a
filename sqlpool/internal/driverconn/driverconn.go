// Package driverconn calls a driver's connection and statements as database/sql does: by their
// optional interfaces where they have them, and by the older ones where not.
//
//	Conn, Stmt ──▶ QueryerContext, ExecerContext, … if the driver has them
//	          └──▶ Queryer, Execer, Prepare, Begin, Exec, Query if not, with database/sql's own errors
//
// So a wrapped connection behaves as the bare one. It refuses to know a pool, and to retry.
package driverconn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// Conn is a driver's connection with its optional interfaces, looked up once. Like the connection
// it is not safe for concurrent use.
type Conn struct {
	Native driver.Conn

	// Pinger, Resetter and Validator are nil where the connection lacks them.
	Pinger    driver.Pinger
	Resetter  driver.SessionResetter
	Validator driver.Validator

	queryer    driver.QueryerContext
	oldQueryer driver.Queryer //nolint:staticcheck // old drivers have only this one
	execer     driver.ExecerContext
	oldExecer  driver.Execer //nolint:staticcheck // old drivers have only this one
	preparer   driver.ConnPrepareContext
	beginner   driver.ConnBeginTx
	checker    driver.NamedValueChecker
}

// Of looks up what c can do.
func Of(c driver.Conn) Conn {
	out := Conn{Native: c}
	if q, ok := c.(driver.QueryerContext); ok {
		out.queryer = q
	} else if q, ok := c.(driver.Queryer); ok { //nolint:staticcheck // old drivers have only this one
		out.oldQueryer = q
	}
	if e, ok := c.(driver.ExecerContext); ok {
		out.execer = e
	} else if e, ok := c.(driver.Execer); ok { //nolint:staticcheck // old drivers have only this one
		out.oldExecer = e
	}
	out.preparer, _ = c.(driver.ConnPrepareContext)
	out.beginner, _ = c.(driver.ConnBeginTx)
	out.Pinger, _ = c.(driver.Pinger)
	out.Resetter, _ = c.(driver.SessionResetter)
	out.Validator, _ = c.(driver.Validator)
	out.checker, _ = c.(driver.NamedValueChecker)
	return out
}

// Queries reports whether Query may be called: without it database/sql prepares a statement.
func (c *Conn) Queries() bool { return c.queryer != nil || c.oldQueryer != nil }

// Executes reports whether Exec may be called.
func (c *Conn) Executes() bool { return c.execer != nil || c.oldExecer != nil }

// Query runs a query that the driver does not prepare. It is called only if Queries().
func (c *Conn) Query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.queryer != nil {
		return c.queryer.QueryContext(ctx, query, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.oldQueryer.Query(query, values)
}

// Exec runs a statement that the driver does not prepare. It is called only if Executes().
func (c *Conn) Exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.execer != nil {
		return c.execer.ExecContext(ctx, query, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.oldExecer.Exec(query, values)
}

// Prepare prepares a statement.
func (c *Conn) Prepare(ctx context.Context, query string) (driver.Stmt, error) {
	if c.preparer != nil {
		return c.preparer.PrepareContext(ctx, query)
	}
	stmt, err := c.Native.Prepare(query)
	if err == nil && ctx.Err() != nil {
		_ = stmt.Close()
		return nil, ctx.Err()
	}
	return stmt, err
}

// Begin begins a transaction.
func (c *Conn) Begin(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.beginner != nil {
		return c.beginner.BeginTx(ctx, opts)
	}
	if opts.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return nil, errors.New("sql: driver does not support non-default isolation level")
	}
	if opts.ReadOnly {
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	tx, err := c.Native.Begin() //nolint:staticcheck // old drivers have only this one
	if err == nil && ctx.Err() != nil {
		_ = tx.Rollback()
		return nil, ctx.Err()
	}
	return tx, err
}

// CheckNamedValue returns ErrSkip unwrapped: database/sql compares it with ==.
func (c *Conn) CheckNamedValue(v *driver.NamedValue) error {
	if c.checker == nil {
		return driver.ErrSkip
	}
	return c.checker.CheckNamedValue(v)
}

// Run runs a statement for its success alone.
func (c *Conn) Run(ctx context.Context, query string) error {
	if c.execer != nil {
		if _, err := c.execer.ExecContext(ctx, query, nil); !errors.Is(err, driver.ErrSkip) {
			return err
		}
	}
	stmt, err := c.Prepare(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	if s, ok := stmt.(driver.StmtExecContext); ok {
		_, err = s.ExecContext(ctx, nil)
		return err
	}
	_, err = stmt.Exec(nil) //nolint:staticcheck // old drivers have only this one
	return err
}

// Table returns the names of the columns and all rows of a query, as text. NULL is "NULL", as SHOW
// prints it.
func (c *Conn) Table(ctx context.Context, query string) (columns []string, table [][]string, err error) {
	if !c.Queries() {
		return nil, nil, errors.ErrUnsupported
	}
	rows, err := c.Query(ctx, query, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns = rows.Columns()
	values := make([]driver.Value, len(columns))
	for {
		if err = rows.Next(values); errors.Is(err, io.EOF) {
			return columns, table, nil
		} else if err != nil {
			return nil, nil, err
		}
		row := make([]string, len(values)) // values are valid only until the next row
		for i, v := range values {
			row[i] = text(v)
		}
		table = append(table, row)
	}
}

func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// Stmt is a driver's prepared statement.
type Stmt struct {
	driver.Stmt

	execer  driver.StmtExecContext
	queryer driver.StmtQueryContext
}

// StmtOf looks up what s can do.
func StmtOf(s driver.Stmt) Stmt {
	out := Stmt{Stmt: s}
	out.execer, _ = s.(driver.StmtExecContext)
	out.queryer, _ = s.(driver.StmtQueryContext)
	return out
}

// ExecContext does without StmtExecContext what database/sql does.
func (s *Stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.execer != nil {
		return s.execer.ExecContext(ctx, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Stmt.Exec(values) //nolint:staticcheck // old drivers have only this one
}

// QueryContext does without StmtQueryContext what database/sql does.
func (s *Stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if s.queryer != nil {
		return s.queryer.QueryContext(ctx, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Stmt.Query(values) //nolint:staticcheck // old drivers have only this one
}

func plainValues(named []driver.NamedValue) ([]driver.Value, error) {
	out := make([]driver.Value, len(named))
	for i, v := range named {
		if v.Name != "" {
			return nil, errors.New("sql: driver does not support the use of Named Parameters")
		}
		out[i] = v.Value
	}
	return out, nil
}
