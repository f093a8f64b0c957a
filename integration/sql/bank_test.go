package integration_test

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jmoiron/sqlx"
	gormmysql "gorm.io/driver/mysql"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	gormlogger "gorm.io/gorm/logger"

	"github.com/poolkeeper/poolkeeper/integration/sql/sqlcgen/mysql"
	"github.com/poolkeeper/poolkeeper/integration/sql/sqlcgen/postgres"
)

// account is a row of the table that all libraries work on.
type account struct {
	ID      int64  `db:"id"      gorm:"primaryKey;autoIncrement:false"`
	Owner   string `db:"owner"   gorm:"size:100;not null"`
	Balance int64  `db:"balance" gorm:"not null"`
}

// bank is the work that each library does: reads of one row and of many, and a transaction.
type bank interface {
	// open prepares the library, and create makes the table.
	open(ctx context.Context, db *sql.DB) error
	create(ctx context.Context) error
	add(ctx context.Context, a account) error
	get(ctx context.Context, id int64) (account, error)
	list(ctx context.Context) ([]account, error)
	// transfer moves amount in a transaction, the row with the smaller id first.
	transfer(ctx context.Context, from, to, amount int64) error
	// close gives back what the library holds of the handle, without closing it.
	close() error
}

var errNoAccount = errors.New("no such account")

// steps are the updates of a transfer in the order of their ids, so that no two transfers wait for
// each other.
func steps(from, to, amount int64) [2]struct{ id, amount int64 } {
	s := [2]struct{ id, amount int64 }{{from, -amount}, {to, amount}}
	if from > to {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

// gormBank is GORM on the managed handle.
type gormBank struct {
	mysql bool
	db    *gorm.DB
}

func (b *gormBank) open(_ context.Context, db *sql.DB) error {
	dialect := gormpostgres.New(gormpostgres.Config{Conn: db})
	if b.mysql {
		dialect = gormmysql.New(gormmysql.Config{Conn: db})
	}
	var err error
	b.db, err = gorm.Open(dialect, &gorm.Config{Logger: gormlogger.Discard})
	return err
}

func (b *gormBank) create(ctx context.Context) error {
	return b.db.WithContext(ctx).AutoMigrate(&account{})
}

func (b *gormBank) add(ctx context.Context, a account) error {
	return gorm.G[account](b.db).Create(ctx, &a)
}

func (b *gormBank) get(ctx context.Context, id int64) (account, error) {
	return gorm.G[account](b.db).Where("id = ?", id).First(ctx)
}

func (b *gormBank) list(ctx context.Context) ([]account, error) {
	return gorm.G[account](b.db).Order(clause.OrderByColumn{Column: clause.Column{Name: "id"}}).Find(ctx)
}

func (b *gormBank) transfer(ctx context.Context, from, to, amount int64) error {
	return b.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, s := range steps(from, to, amount) {
			done := tx.Model(&account{}).Where("id = ?", s.id).Update("balance", gorm.Expr("balance + ?", s.amount))
			if done.Error != nil {
				return done.Error
			}
			if done.RowsAffected != 1 {
				return errNoAccount
			}
		}
		return nil
	})
}

func (b *gormBank) close() error { return nil }

// ddl is the table for the libraries that do not make it themselves. It suits both servers.
const ddl = "CREATE TABLE accounts (id BIGINT PRIMARY KEY, owner VARCHAR(100) NOT NULL, balance BIGINT NOT NULL)"

// sqlxBank is sqlx on the managed handle.
type sqlxBank struct {
	driver string // by which sqlx knows the placeholders
	db     *sqlx.DB
}

func (b *sqlxBank) open(_ context.Context, db *sql.DB) error {
	b.db = sqlx.NewDb(db, b.driver)
	return nil
}

func (b *sqlxBank) create(ctx context.Context) error {
	_, err := b.db.ExecContext(ctx, ddl)
	return err
}

func (b *sqlxBank) add(ctx context.Context, a account) error {
	_, err := b.db.NamedExecContext(ctx, "INSERT INTO accounts (id, owner, balance) VALUES (:id, :owner, :balance)", a)
	return err
}

func (b *sqlxBank) get(ctx context.Context, id int64) (account, error) {
	var a account
	err := b.db.GetContext(ctx, &a, b.db.Rebind("SELECT * FROM accounts WHERE id = ?"), id)
	return a, err
}

func (b *sqlxBank) list(ctx context.Context) ([]account, error) {
	var all []account
	err := b.db.SelectContext(ctx, &all, "SELECT * FROM accounts ORDER BY id")
	return all, err
}

func (b *sqlxBank) transfer(ctx context.Context, from, to, amount int64) error {
	tx, err := b.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	for _, s := range steps(from, to, amount) {
		if _, err := tx.ExecContext(ctx, tx.Rebind("UPDATE accounts SET balance = balance + ? WHERE id = ?"), s.amount, s.id); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (b *sqlxBank) close() error { return nil }

// queries is what sqlc generates, the same for both servers but for the types' packages.
type queries struct {
	add   func(context.Context, account) error
	get   func(context.Context, int64) (account, error)
	list  func(context.Context) ([]account, error)
	move  func(ctx context.Context, tx *sql.Tx, id, amount int64) (int64, error)
	close func() error
}

// sqlcBank is code that sqlc has generated on the managed handle, with prepared statements.
type sqlcBank struct {
	prepare func(context.Context, *sql.DB) (queries, error)
	db      *sql.DB
	q       queries
}

func (b *sqlcBank) open(_ context.Context, db *sql.DB) error {
	b.db = db
	return nil
}

func (b *sqlcBank) create(ctx context.Context) error {
	if _, err := b.db.ExecContext(ctx, ddl); err != nil {
		return err
	}
	var err error
	b.q, err = b.prepare(ctx, b.db)
	return err
}

func (b *sqlcBank) add(ctx context.Context, a account) error { return b.q.add(ctx, a) }

func (b *sqlcBank) get(ctx context.Context, id int64) (account, error) { return b.q.get(ctx, id) }
func (b *sqlcBank) list(ctx context.Context) ([]account, error)        { return b.q.list(ctx) }
func (b *sqlcBank) close() error                                       { return b.q.close() }
func (b *sqlcBank) transfer(ctx context.Context, from, to, amount int64) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, s := range steps(from, to, amount) {
		n, err := b.q.move(ctx, tx, s.id, s.amount)
		if err == nil && n != 1 {
			err = errNoAccount
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func preparePostgres(ctx context.Context, db *sql.DB) (queries, error) {
	q, err := postgres.Prepare(ctx, db)
	if err != nil {
		return queries{}, err
	}
	return queries{
		add: func(ctx context.Context, a account) error {
			return q.CreateAccount(ctx, postgres.CreateAccountParams(a))
		},
		get: func(ctx context.Context, id int64) (account, error) {
			a, err := q.GetAccount(ctx, id)
			return account(a), err
		},
		list: func(ctx context.Context) ([]account, error) {
			found, err := q.ListAccounts(ctx)
			all := make([]account, len(found))
			for i, a := range found {
				all[i] = account(a)
			}
			return all, err
		},
		move: func(ctx context.Context, tx *sql.Tx, id, amount int64) (int64, error) {
			return q.WithTx(tx).AddToBalance(ctx, postgres.AddToBalanceParams{Amount: amount, ID: id})
		},
		close: q.Close,
	}, nil
}

func prepareMySQL(ctx context.Context, db *sql.DB) (queries, error) {
	q, err := mysql.Prepare(ctx, db)
	if err != nil {
		return queries{}, err
	}
	return queries{
		add: func(ctx context.Context, a account) error { return q.CreateAccount(ctx, mysql.CreateAccountParams(a)) },
		get: func(ctx context.Context, id int64) (account, error) {
			a, err := q.GetAccount(ctx, id)
			return account(a), err
		},
		list: func(ctx context.Context) ([]account, error) {
			found, err := q.ListAccounts(ctx)
			all := make([]account, len(found))
			for i, a := range found {
				all[i] = account(a)
			}
			return all, err
		},
		move: func(ctx context.Context, tx *sql.Tx, id, amount int64) (int64, error) {
			return q.WithTx(tx).AddToBalance(ctx, mysql.AddToBalanceParams{Amount: amount, ID: id})
		},
		close: q.Close,
	}, nil
}
