package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// The server may have run a statement whose connection ends before the answer: nothing sends it again.
func TestStatementWithoutAnswerIsSentOnce(t *testing.T) {
	const statement = "insert into orders default values"
	ways := map[string]func(context.Context, *sqlpool.Postgres) error{
		"Exec of DB": func(ctx context.Context, p *sqlpool.Postgres) error {
			_, err := p.DB().ExecContext(ctx, statement)
			return err
		},
		"Query of DB": func(ctx context.Context, p *sqlpool.Postgres) error {
			rows, err := p.DB().QueryContext(ctx, statement)
			if err == nil {
				err = errors.Join(rows.Err(), rows.Close())
			}
			return err
		},
		"Exec of a DB's Conn": func(ctx context.Context, p *sqlpool.Postgres) error {
			c, err := p.DB().Conn(ctx)
			if err != nil {
				return err
			}
			_, err = c.ExecContext(ctx, statement)
			if closed := c.Close(); !errors.Is(closed, sql.ErrConnDone) {
				err = errors.Join(err, closed)
			}
			return err
		},
		"Exec of Pool": func(ctx context.Context, p *sqlpool.Postgres) error {
			_, err := p.Pool().Exec(ctx, statement)
			return err
		},
	}
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, sqlpool.Config{MaxOpen: 3}, nil, func(t *testing.T, p *sqlpool.Postgres, srv *sqlpooltest.PostgresServer) {
				srv.Answer(statement, sqlpooltest.Answer{Delay: time.Second})
				time.AfterFunc(500*time.Millisecond, srv.Drop)
				err := send(t.Context(), p)
				if !errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) {
					t.Errorf("%v; safe to retry: %t; timeout: %t", err, pgconn.SafeToRetry(err), pgconn.Timeout(err))
				}
				if n := sent(srv, statement); n != 1 {
					t.Errorf("it was sent %d times", n)
				}
			})
		})
	}
}

func sent(srv *sqlpooltest.PostgresServer, statement string) (n int) {
	for _, q := range srv.Queries() {
		if q.SQL == statement {
			n++
		}
	}
	return n
}
