package sqlpool_test

import (
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// A server that is full serves those it has let in: readiness must not fail by it.
func TestCheckOfAFullServerAsksOverAnIdleConnection(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 4}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Terminate() // the check's own connection
		release, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		srv.MaxConnections(1)
		status, err := sqltest.Verdict(t, p.managed.Check)
		if status != health.StatusWarn || health.Classify(err).Kind != health.KindTooManyConnections {
			t.Errorf("with nothing idle: %s, %v", status, err)
		}
		release()
		if status, err = sqltest.Verdict(t, p.managed.Check); status != health.StatusPass {
			t.Errorf("with one idle: %s, %v", status, err)
		}
		if s := p.managed.Stats(); s.InUse != 0 || s.Idle != 1 {
			t.Errorf("%d in use, %d idle", s.InUse, s.Idle)
		}
		for range 3 { // the connection and its place are back
			if release, err = p.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			release()
		}
		srv.Terminate() // and the idle connection, unnoticed, while others take its place at the server
		srv.MaxConnections(0)
		srv.RefuseLogins("53300", "sorry, too many clients already")
		if status, err = sqltest.Verdict(t, p.managed.Check); status != health.StatusWarn {
			t.Errorf("with a dead one idle: %s, %v", status, err)
		}
		srv.RefuseLogins("28P01", "no")
		if status, err = sqltest.Verdict(t, p.managed.Check); status != health.StatusFail {
			t.Errorf("with a wrong password: %s, %v", status, err)
		}
	})
}

func TestCheckThatMayNotAskIsHealthy(t *testing.T) {
	cfg := sqlpool.DBConfig{MaxOpen: 4, CheckQuery: "select 1", Start: poolkeeper.StartDegraded}
	onBothPools(t, cfg, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Answer("select 1", sqlpooltest.Answer{})
		srv.FailQueries("42501", "permission denied for table orders")
		if status, err := sqltest.Verdict(t, p.managed.Check); status != health.StatusPass {
			t.Errorf("%s, %v", status, err)
		}
		srv.FailQueries("42P01", `relation "orders" does not exist`)
		if status, err := sqltest.Verdict(t, p.managed.Check); status != health.StatusFail {
			t.Errorf("a table that is not there: %s, %v", status, err)
		}
	})
}
