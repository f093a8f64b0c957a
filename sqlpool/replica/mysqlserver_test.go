package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// mysqlPair is a real MariaDB primary and a real replica of it, under one MySQL.
type mysqlPair struct {
	*replica.MySQL

	primary, replica *testserver.Server
}

func newMySQLPair(t *testing.T, change func(*replica.MySQLConfig)) *mysqlPair {
	t.Helper()
	p := &mysqlPair{primary: testserver.MariaDBPrimary(t)}
	p.replica = testserver.MariaDBReplica(t, p.primary)
	cfg := replica.MySQLConfig{
		Name: "orders", MaxLag: time.Second, PollInterval: 50 * time.Millisecond, PollTimeout: time.Second, Logger: quiet(),
		Primary:  sqlpool.MySQLConfig{URL: p.primary.URL(), Logger: quiet()},
		Replicas: []sqlpool.MySQLConfig{{URL: p.replica.URL(), Logger: quiet()}},
	}
	if change != nil {
		change(&cfg)
	}
	p.MySQL = startMySQL(t, cfg)
	p.write(t, "create table orders (n int)")
	return p
}

func startMySQL(t *testing.T, cfg replica.MySQLConfig) *replica.MySQL {
	t.Helper()
	r, err := replica.NewMySQL(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Abort() }) // a test that wants the outcome has stopped it before
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *mysqlPair) write(t *testing.T, sql string) {
	t.Helper()
	if _, err := p.Primary().DB().ExecContext(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// onMySQL runs statements on a server, past the pools.
func onMySQL(t *testing.T, s *testserver.Server, statements ...string) {
	t.Helper()
	db := sqltest.MySQL(t, s)
	defer func() { _ = db.Close() }()
	for _, sql := range statements {
		if _, err := db.ExecContext(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// readsFrom is the id of the server that answers a read now; 0: none does.
func readsFrom(t *testing.T, r *replica.MySQL) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var id int
	if err := r.Replica().DB().QueryRowContext(ctx, "select @@global.server_id").Scan(&id); err != nil {
		return 0
	}
	return id
}

// becomes waits until the replica has a state, and reads go where that implies.
func (p *mysqlPair) becomes(t *testing.T, want replica.State) {
	t.Helper()
	awaitState(t, p, want)
	server := 1
	if want == replica.StateReady {
		server = 2
	}
	eventually(t, "reads are served by the right one", func() bool { return readsFrom(t, p.MySQL) == server })
}

func TestMariaDBReplicaIsReadWhileItKeepsUp(t *testing.T) {
	testkit.Slow(t)
	p := newMySQLPair(t, nil)
	p.becomes(t, replica.StateReady)

	t.Run("what was written comes to be read, in a read-only transaction", func(t *testing.T) {
		p.write(t, "insert into orders values (42)")
		eventually(t, "the row is there", func() bool {
			tx, err := p.BeginReadOnly(t.Context())
			if err != nil {
				return false
			}
			defer func() { _ = tx.Rollback() }()
			var n, server int
			err = tx.QueryRowContext(t.Context(), "select n, @@global.server_id from orders").Scan(&n, &server)
			return err == nil && n == 42 && server == 2
		})
	})

	t.Run("an idle primary makes no lag", func(t *testing.T) {
		hasNoLagWhileIdle(t, p, func() { _ = readsFrom(t, p.MySQL) })
	})

	t.Run("a stopped applier is lag once something is written, and its end is seen", func(t *testing.T) {
		onMySQL(t, p.replica, "stop slave sql_thread")
		p.write(t, "insert into orders values (43)")
		p.becomes(t, replica.StateLagging)
		if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "behind; MaxLag is 1s") {
			t.Errorf("%v, want a reservation that says how far it is behind", err)
		}
		// One that begins only now has not seen the primary where the replica is.
		late := startMySQL(t, replica.MySQLConfig{
			Primary: sqlpool.MySQLConfig{URL: p.primary.URL()}, Replicas: []sqlpool.MySQLConfig{{URL: p.replica.URL()}}, MaxLag: time.Second, Logger: quiet(),
		})
		m := late.Members()[1]
		if m.State != replica.StateLagging || m.InRotation || m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "replication does not run (receiver: Yes, applier: No") {
			t.Errorf("%+v, want a replica that is not read, and why", m)
		}
		if err := late.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		onMySQL(t, p.replica, "start slave sql_thread")
		p.becomes(t, replica.StateReady)
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("a replica that has lost its primary is behind once something is written", func(t *testing.T) {
		onMySQL(t, p.replica, "stop slave io_thread")
		p.write(t, "insert into orders values (44)")
		p.becomes(t, replica.StateLagging) // though it has applied all it has received
		onMySQL(t, p.replica, "start slave io_thread")
		p.becomes(t, replica.StateReady)
	})

	t.Run("it takes no privilege to poll", func(t *testing.T) {
		p.write(t, "create user plain@'127.0.0.1'")
		plain := func(s *testserver.Server) sqlpool.MySQLConfig {
			return sqlpool.MySQLConfig{URL: "mysql://plain@" + s.Addr() + "/", Logger: quiet(), Start: poolkeeper.StartWaitForServer}
		}
		r := startMySQL(t, replica.MySQLConfig{
			Primary: plain(p.primary), Replicas: []sqlpool.MySQLConfig{plain(p.replica)}, Logger: quiet(), PollInterval: 20 * time.Millisecond,
		})
		eventually(t, "both are ready, and the lag is known", func() bool {
			m := r.Members()
			return m[0].State == replica.StateReady && m[1].State == replica.StateReady && m[1].HasLag
		})
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestMariaDBReplicaThatIsBehindAtTheStartHasNoLagUntilItHasComeSoFar(t *testing.T) {
	p := newMySQLPair(t, nil)
	p.becomes(t, replica.StateReady)
	p.write(t, "create user plain@'127.0.0.1'")
	admin := sqltest.MySQL(t, p.replica)
	eventually(t, "the replica has the user", func() bool {
		var n int
		return admin.QueryRowContext(t.Context(), "select 1 from mysql.user where user = 'plain'").Scan(&n) == nil
	})
	onMySQL(t, p.replica, "stop slave", "change master to master_delay=3600", "start slave")
	p.write(t, "insert into orders values (1)")
	p.becomes(t, replica.StateLagging)

	poll := func(user string) replica.Member {
		r := startMySQL(t, replica.MySQLConfig{
			Primary:  sqlpool.MySQLConfig{URL: "mysql://" + user + "@" + p.primary.Addr() + "/", Logger: quiet()},
			Replicas: []sqlpool.MySQLConfig{{URL: "mysql://" + user + "@" + p.replica.Addr() + "/", Logger: quiet()}},
			MaxLag:   time.Second, PollInterval: 100 * time.Millisecond, Logger: quiet(),
		})
		defer func() { _ = r.Stop(t.Context()) }()
		eventually(t, "it lags", func() bool { return r.Members()[1].State == replica.StateLagging })
		return r.Members()[1]
	}
	if m := poll("root"); m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "it has not reached where the primary was") {
		t.Errorf("%+v, want no lag, though the replica says one of itself", m)
	}
	if m := poll("plain"); m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "not known") || !strings.Contains(fmt.Sprint(m.Err), "SLAVE MONITOR") {
		t.Errorf("%+v, want what privilege is missing", m)
	}

	// While the primary is gone no newer position can be had. A pool that starts then asks the
	// replica itself.
	onMySQL(t, p.replica, "stop slave", "change master to master_delay=0", "start slave")
	p.becomes(t, replica.StateReady)
	p.primary.Kill(t)
	late := startMySQL(t, replica.MySQLConfig{
		Primary:  sqlpool.MySQLConfig{URL: p.primary.URL(), Logger: quiet(), Start: poolkeeper.StartDegraded},
		Replicas: []sqlpool.MySQLConfig{{URL: p.replica.URL(), Logger: quiet()}},
		Logger:   quiet(), PollInterval: 50 * time.Millisecond,
	})
	eventually(t, "the replica is read", func() bool { return late.Members()[1].InRotation && readsFrom(t, late) == 2 })
}

func TestMariaDBFrozenAndKilledReplicaIsLeftAloneUntilItIsBack(t *testing.T) {
	testkit.Slow(t)
	p := newMySQLPair(t, nil)
	isLeftAloneWhileItIsAway(t, p, p.replica)

	// INV-9, seen from both servers: only replication is left.
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	for _, s := range []*testserver.Server{p.primary, p.replica} {
		admin := sqltest.MySQL(t, s)
		eventually(t, "no connection is left", func() bool {
			var n int
			err := admin.QueryRowContext(t.Context(), `select count(*) from information_schema.processlist
				where id <> connection_id() and command not in ('Binlog Dump', 'Slave_IO', 'Slave_SQL', 'Slave_worker', 'Daemon')`).Scan(&n)
			return err == nil && n == 0
		})
	}
}

func TestMariaDBDrainAndStopCoverBothServersAndNameTheHolder(t *testing.T) {
	testkit.Slow(t)
	p := newMySQLPair(t, nil)
	p.becomes(t, replica.StateReady)
	tx, err := p.BeginReadOnly(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tooShort, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err = p.Drain(tooShort); err == nil || !strings.Contains(err.Error(), `drain "orders/replica-1"`) || strings.Contains(err.Error(), "orders/primary") {
		t.Errorf("%v, want the pool whose connection is held", err)
	}
	for _, pool := range append(p.Replicas(), p.Primary()) {
		if _, err = pool.DB().ExecContext(t.Context(), "select 1"); !errors.Is(err, poolkeeper.ErrDraining) {
			t.Errorf("%v, want ErrDraining", err)
		}
	}
	var n int
	if err = tx.QueryRowContext(t.Context(), "select 1").Scan(&n); err != nil { // INV-8
		t.Errorf("a transaction that was open when Drain began: %v", err)
	}
	err = p.Stop(tooShort)
	if held, ok := errors.AsType[*poolkeeper.HeldError](err); !ok || held.Pool != "orders/replica-1" || held.Cut != 1 {
		t.Errorf("%v, want the pool whose connection was cut", err)
	}
	_ = tx.Rollback()
}

func TestMariaDBFailoverIsSeenByWhoTakesWrites(t *testing.T) {
	testkit.Slow(t)
	p := newMySQLPair(t, nil)
	p.becomes(t, replica.StateReady)
	eventually(t, "a connection will lead to a demoted server", func() bool { return p.Primary().Stats().Open > 0 })
	admin := sqltest.MySQL(t, p.replica)
	eventually(t, "the replica has the table", func() bool {
		_, err := admin.ExecContext(t.Context(), "select n from orders")
		return err == nil
	})

	onMySQL(t, p.replica, "stop slave", "set global read_only = 0") // it is promoted
	p.becomes(t, replica.StatePromoted)
	onMySQL(t, p.primary, "set global read_only = 1") // and the old primary demoted
	eventually(t, "the demotion is seen", func() bool { return p.Members()[0].State == replica.StateDemoted })
	eventually(t, "the promoted one is read", func() bool { return p.Members()[1].State == replica.StateReady })
	if err := p.Check(t.Context()); health.Classify(err).Kind != health.KindReadOnly || !strings.Contains(fmt.Sprint(err), "orders/primary") {
		t.Errorf("%v, want a failure: the primary takes no writes", err)
	}
	eventually(t, "connections to the demoted primary are closed", func() bool {
		return p.Primary().Stats().Evicted[poolkeeper.EvictedFailover] > 0
	})

	// The name of the primary now leads to the other, whose log goes on where it has applied the
	// old one's.
	cfg := replica.MySQLConfig{
		Primary: sqlpool.MySQLConfig{URL: p.replica.URL(), Logger: quiet()}, Replicas: []sqlpool.MySQLConfig{{URL: p.primary.URL(), Logger: quiet()}},
		Logger: quiet(), MaxLag: time.Second, PollInterval: 50 * time.Millisecond,
	}
	onMySQL(t, p.primary, "set global gtid_slave_pos = @@gtid_binlog_pos",
		"change master to master_host='127.0.0.1', master_port="+p.replica.Port()+", master_user='root', master_use_gtid=slave_pos", "start slave")
	turned := startMySQL(t, cfg)
	if _, err := turned.Primary().DB().ExecContext(t.Context(), "insert into orders values (7)"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old primary is read, as a replica of the new", func() bool {
		var n int
		err := turned.Replica().DB().QueryRowContext(t.Context(), "select n from orders where @@global.server_id = 1").Scan(&n)
		return err == nil && n == 7
	})
}

func TestReadOnlyTransactionOnMariaDBRefusesWritesOnThePrimaryToo(t *testing.T) {
	testkit.Slow(t)
	r := startMySQL(t, replica.MySQLConfig{
		Primary: sqlpool.MySQLConfig{URL: testserver.SharedMariaDB(t).URL()}, Logger: quiet(), PollInterval: 20 * time.Millisecond,
	})
	if _, err := r.Primary().DB().ExecContext(t.Context(), "create or replace table refused (n int)"); err != nil {
		t.Fatal(err)
	}
	tx, err := r.BeginReadOnly(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.ExecContext(t.Context(), "insert into refused values (1)")
	if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != 1792 {
		t.Errorf("%v, want 1792", err)
	}
	if err = tx.Rollback(); err != nil {
		t.Error(err)
	}
	if r.Primary().Stats().Evicted[poolkeeper.EvictedFailover] != 0 {
		t.Error("a read-only transaction is taken for a demoted server")
	}
	if _, err = r.Primary().DB().ExecContext(t.Context(), "drop table refused"); err != nil {
		t.Error(err)
	}
}

func TestMariaDBKilledReplicaCostsTheReadsInFlight(t *testing.T) {
	testkit.Slow(t)
	p := newMySQLPair(t, func(cfg *replica.MySQLConfig) { cfg.PollInterval, cfg.MaxLag = 0, 0 })
	costsTheReadsInFlight(t, p, p.replica, func(ctx context.Context) error {
		var n sql.NullInt64
		return p.Replica().DB().QueryRowContext(ctx, "select 1").Scan(&n)
	})
}
