package testserver_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestStandbyStreamsFromItsPrimary(t *testing.T) {
	testkit.Slow(t)
	primary := testserver.Postgres(t)
	standby := testserver.PostgresStandby(t, primary)
	at := func(s *testserver.Server, sql string) (n int, err error) {
		c, err := pgx.Connect(t.Context(), s.URL())
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close(t.Context()) }()
		err = c.QueryRow(t.Context(), sql).Scan(&n)
		return n, err
	}
	if n, err := at(primary, "select pg_is_in_recovery()::int"); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := at(standby, "select pg_is_in_recovery()::int"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c, err := pgx.Connect(t.Context(), primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), "create table streamed as select 7 as n"); err != nil {
		t.Fatal(err)
	}
	standby.Restart(t)
	testkit.Eventually(t, "what the primary wrote comes to the standby", func() bool {
		n, err := at(standby, "select n from streamed")
		return err == nil && n == 7
	})
}
