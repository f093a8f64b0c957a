package sqlpool

import (
	"context"
	"database/sql/driver"

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
