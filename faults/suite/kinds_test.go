package suite_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// The forms of a write, besides the plain one.
const (
	batch       = "batch"
	copyFrom    = "COPY"
	prepared    = "prepared"
	pipeline    = "pipeline"
	transaction = "MULTI"
)

// kindsOf are the forms of write that a library has.
func kindsOf(lib library) []string {
	switch {
	case strings.HasPrefix(lib.name, "Redis"):
		return []string{pipeline, transaction}
	case lib.name == "pgxpool":
		return []string{batch, copyFrom, prepared}
	}
	return []string{prepared}
}

func redisKinds(c redis.UniversalClient) map[string]func(ctx context.Context, n int) error {
	two := func(ctx context.Context, p redis.Pipeliner, n int) error {
		p.Incr(ctx, key(n))
		p.Incr(ctx, key(n))
		_, err := p.Exec(ctx)
		return err
	}
	return map[string]func(ctx context.Context, n int) error{
		pipeline:    func(ctx context.Context, n int) error { return two(ctx, c.Pipeline(), n) },
		transaction: func(ctx context.Context, n int) error { return two(ctx, c.TxPipeline(), n) },
	}
}

func pgxKinds(p *pgxpool.Pool) map[string]func(ctx context.Context, n int) error {
	return map[string]func(ctx context.Context, n int) error{
		batch: func(ctx context.Context, n int) error {
			b := &pgx.Batch{}
			b.Queue(pgWrite, n)
			b.Queue(pgWrite, n)
			return p.SendBatch(ctx, b).Close()
		},
		copyFrom: func(ctx context.Context, n int) error {
			_, err := p.CopyFrom(ctx, pgx.Identifier{"copies"}, []string{"id"}, pgx.CopyFromRows([][]any{{n}, {n}}))
			return err
		},
		prepared: func(ctx context.Context, n int) error {
			return p.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
				if _, err := c.Conn().Prepare(ctx, "write", pgWrite); err != nil { // once per connection
					return err
				}
				_, err := c.Exec(ctx, "write", n)
				return err
			})
		},
	}
}

// dbKinds has one statement for all callers, as services do.
func dbKinds(db *sql.DB, write string) map[string]func(ctx context.Context, n int) error {
	var mu sync.Mutex // guards the following
	var stmt *sql.Stmt
	prepare := func(ctx context.Context) (*sql.Stmt, error) {
		mu.Lock()
		defer mu.Unlock()
		if stmt != nil {
			return stmt, nil
		}
		var err error
		stmt, err = db.PrepareContext(ctx, write) //nolint:sqlclosecheck // it lives as long as db, which closes its connections
		return stmt, err
	}
	return map[string]func(ctx context.Context, n int) error{
		prepared: func(ctx context.Context, n int) error {
			s, err := prepare(ctx) //nolint:sqlclosecheck // the same
			if err != nil {
				return err
			}
			_, err = s.ExecContext(ctx, n)
			return err
		},
	}
}
