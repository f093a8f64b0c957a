package testserver_test

import (
	"database/sql"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMariaDBReplicaFollowsItsPrimaryAlsoOverARestart(t *testing.T) {
	testkit.Slow(t)
	primary := testserver.MariaDBPrimary(t)
	replica := testserver.MariaDBReplica(t, primary)
	open := func(s *testserver.Server) *sql.DB {
		db, err := sql.Open("mysql", s.DSN())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	from, to := open(primary), open(replica)
	await := func(what string, want int) {
		t.Helper()
		tick, deadline := time.NewTicker(10*time.Millisecond), time.After(30*time.Second)
		defer tick.Stop()
		for {
			var n int
			err := to.QueryRowContext(t.Context(), "select sum(n) from streamed where @@global.read_only").Scan(&n)
			if err == nil && n == want {
				return
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s: %d, %v; want %d", what, n, err, want)
			}
		}
	}
	if _, err := from.ExecContext(t.Context(), "create table streamed as select 7 as n"); err != nil {
		t.Fatal(err)
	}
	await("what the primary wrote", 7)
	replica.Restart(t)
	if _, err := from.ExecContext(t.Context(), "insert into streamed values (8)"); err != nil {
		t.Fatal(err)
	}
	await("what it wrote after the replica's restart", 15)
}
