package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// capabilities are the optional interfaces of a driver's connection, looked up once. Where one is
// missing, the methods here do what database/sql does without it, in the same words, so that a
// wrapped connection behaves as the bare one.
type capabilities struct {
	queryer    driver.QueryerContext
	oldQueryer driver.Queryer //nolint:staticcheck // old drivers have only this one
	execer     driver.ExecerContext
	oldExecer  driver.Execer //nolint:staticcheck // old drivers have only this one
	preparer   driver.ConnPrepareContext
	beginner   driver.ConnBeginTx
	pinger     driver.Pinger
	resetter   driver.SessionResetter
	validator  driver.Validator
	checker    driver.NamedValueChecker
}

func capabilitiesOf(c driver.Conn) capabilities {
	var out capabilities
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
	out.pinger, _ = c.(driver.Pinger)
	out.resetter, _ = c.(driver.SessionResetter)
	out.validator, _ = c.(driver.Validator)
	out.checker, _ = c.(driver.NamedValueChecker)
	return out
}

func (k *capabilities) queries() bool  { return k.queryer != nil || k.oldQueryer != nil }
func (k *capabilities) executes() bool { return k.execer != nil || k.oldExecer != nil }

// query is called only if queries().
func (k *capabilities) query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if k.queryer != nil {
		return k.queryer.QueryContext(ctx, query, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return k.oldQueryer.Query(query, values)
}

// exec is called only if executes().
func (k *capabilities) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if k.execer != nil {
		return k.execer.ExecContext(ctx, query, args)
	}
	values, err := plainValues(args)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return k.oldExecer.Exec(query, values)
}

func (k *capabilities) prepare(ctx context.Context, c driver.Conn, query string) (driver.Stmt, error) {
	if k.preparer != nil {
		return k.preparer.PrepareContext(ctx, query)
	}
	stmt, err := c.Prepare(query)
	if err == nil && ctx.Err() != nil {
		_ = stmt.Close()
		return nil, ctx.Err()
	}
	return stmt, err
}

func (k *capabilities) begin(ctx context.Context, c driver.Conn, opts driver.TxOptions) (driver.Tx, error) {
	if k.beginner != nil {
		return k.beginner.BeginTx(ctx, opts)
	}
	if opts.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return nil, errors.New("sql: driver does not support non-default isolation level")
	}
	if opts.ReadOnly {
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	tx, err := c.Begin() //nolint:staticcheck // old drivers have only this one
	if err == nil && ctx.Err() != nil {
		_ = tx.Rollback()
		return nil, ctx.Err()
	}
	return tx, err
}

// check returns ErrSkip unwrapped: database/sql compares it with ==.
func (k *capabilities) check(v *driver.NamedValue) error {
	if k.checker == nil {
		return driver.ErrSkip
	}
	return k.checker.CheckNamedValue(v)
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
