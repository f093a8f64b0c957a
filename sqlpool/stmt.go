package sqlpool

import (
	"context"
	"database/sql/driver"
)

// stmt is a prepared statement of the driver, wrapped only to see how its executions end: most
// queries with arguments of go-sql-driver/mysql go this way.
type stmt struct {
	driver.Stmt

	execer  driver.StmtExecContext
	queryer driver.StmtQueryContext
	c       *conn
}

// ExecContext does without StmtExecContext what database/sql does.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	res, err := s.exec(s.c.bounded(ctx), args)
	s.c.unbound()
	s.c.after(ctx, err)
	return res, err
}

func (s *stmt) exec(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
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
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.query(s.c.bounded(ctx), args)
	s.c.after(ctx, err)
	return rows, err
}

func (s *stmt) query(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
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
	s := stmt{Stmt: native, c: c}
	s.execer, _ = native.(driver.StmtExecContext)
	s.queryer, _ = native.(driver.StmtQueryContext)
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
