package sqlpool_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// A connection breaks under a statement that the server has got: it is not sent again.
func TestPostgresStatementIsSentOnce(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *sqlpool.Postgres, string) *sql.DB{
		"DB": func(_ *testing.T, p *sqlpool.Postgres, _ string) *sql.DB { return p.DB() },
		"NewDB": func(t *testing.T, _ *sqlpool.Postgres, url string) *sql.DB {
			t.Helper()
			conf, err := pgx.ParseConfig(url)
			if err != nil {
				t.Fatal(err)
			}
			p, err := sqlpool.NewDB(stdlib.GetConnector(*conf), sqlpool.DBConfig{Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Abort() })
			return p.DB()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, srv := sqlpooltest.NewPostgres(t)
			srv.Answer("insert", sqlpooltest.Answer{Delay: time.Minute})
			db := open(t, p, srv.URL())
			sent := func() (n int) {
				for _, q := range srv.Queries() {
					if q.SQL == "insert" {
						n++
					}
				}
				return n
			}
			done := make(chan error, 1)
			go func() {
				_, err := db.ExecContext(t.Context(), "insert")
				done <- err
			}()
			eventually(t, "the statement is under way", func() bool { return sent() > 0 })
			srv.Drop()
			if err := <-done; err == nil || errors.Is(err, driver.ErrBadConn) {
				t.Errorf("Exec = %v", err)
			}
			if n := sent(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// Raw gives pgx's connection by Native.
func TestPostgresNativeOfDB(t *testing.T) {
	p, _ := sqlpooltest.NewPostgres(t)
	c, err := p.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Raw(func(dc any) error {
		if _, ok := sqlpool.Native(dc).(*stdlib.Conn); !ok {
			t.Errorf("a %T", sqlpool.Native(dc))
		}
		if u, ok := dc.(interface{ Unwrap() driver.Conn }); !ok || u.Unwrap() != sqlpool.Native(dc) {
			t.Error("Unwrap returns another")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
