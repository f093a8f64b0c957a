package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// dialect is how a database spells parameters.
type dialect int

const (
	questionMarks dialect = iota // MySQL, SQLite
	dollars                      // PostgreSQL
)

// rebind turns the ? of a query into what the dialect wants. The queries below hold no other
// question marks.
func (d dialect) rebind(query string) string {
	if d == questionMarks {
		return query
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		fmt.Fprintf(&b, "$%d", n)
	}
	return b.String()
}

// database is one SQL server: a plain *sql.DB, which is what sqlpool hands out.
type database struct {
	*sql.DB

	dialect dialect
}

// linkStore keeps the links.
type linkStore struct{ db database }

func (s linkStore) migrate(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS links (
		code VARCHAR(16) NOT NULL PRIMARY KEY, target TEXT NOT NULL, created_at BIGINT NOT NULL)`)
	return err
}

func (s linkStore) add(ctx context.Context, code, target string) error {
	_, err := s.db.ExecContext(ctx, s.db.dialect.rebind(`INSERT INTO links (code, target, created_at) VALUES (?, ?, ?)`),
		code, target, time.Now().Unix()) //nolint:forbidigo // a date that is stored
	return err
}

// target returns sql.ErrNoRows for an unknown code.
func (s linkStore) target(ctx context.Context, code string) (string, error) {
	var target string
	err := s.db.QueryRowContext(ctx, s.db.dialect.rebind(`SELECT target FROM links WHERE code = ?`), code).Scan(&target)
	return target, err
}

// visit is one redirect served.
type visit struct {
	code string
	at   time.Time
}

// visitStore keeps each visit of a link with its time.
type visitStore struct{ db database }

func (s visitStore) migrate(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS visits (code VARCHAR(16) NOT NULL, visited_at BIGINT NOT NULL)`)
	return err
}

// add writes a batch in one transaction.
func (s visitStore) add(ctx context.Context, batch []visit) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for _, v := range batch {
		if _, err := tx.ExecContext(ctx, s.db.dialect.rebind(`INSERT INTO visits (code, visited_at) VALUES (?, ?)`),
			v.code, v.at.UnixMilli()); err != nil { //nolint:forbidigo // a date that is stored
			return err
		}
	}
	return tx.Commit()
}

func (s visitStore) count(ctx context.Context, code string) (int, error) {
	var n int
	err := s.db.QueryRowContext(ctx, s.db.dialect.rebind(`SELECT COUNT(*) FROM visits WHERE code = ?`), code).Scan(&n)
	return n, err
}
