package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

var (
	_ lifecycle.Component        = (*replica.MySQL)(nil)
	_ lifecycle.Drainer          = (*replica.MySQL)(nil)
	_ lifecycle.Aborter          = (*replica.MySQL)(nil)
	_ lifecycle.Checker          = (*replica.MySQL)(nil)
	_ lifecycle.StatsProvider    = (*replica.MySQL)(nil)
	_ lifecycle.HolderLister     = (*replica.MySQL)(nil)
	_ lifecycle.ObserverSetter   = (*replica.MySQL)(nil)
	_ lifecycle.SettingsProvider = (*replica.MySQL)(nil)
	_ lifecycle.NameSetter       = (*replica.MySQL)(nil)
)

const (
	askRole     = "select @@global.read_only"
	askGTIDs    = "select @@global.gtid_mode"
	askReplica  = "show replica status"
	askSlave    = "show slave status"
	sourceUUID  = "3E11FA47-71CA-11E1-9E33-C80AA9429562"
	replicaUUID = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

// mysql8 answers as MySQL 8.0 does, in the given role, having executed the given transactions.
func mysql8(name, readOnly, gtids string) map[string]mysqlAnswer {
	return map[string]mysqlAnswer{
		"select who":                      row(name),
		askRole:                           row(readOnly, "0", "8.0.36"),
		askGTIDs:                          row("ON", gtids),
		askReplica:                        replicaStatus("NULL", "Yes", "Yes", "3"),
		"select @@global.max_connections": row("151", "0", "28800"),
		"show global status":              row("Threads_connected", "1"),
	}
}

// replicaStatus is a row as MySQL 8.0.22 and later have it. seconds is Seconds_Behind_Source;
// executed is where in the source's log the applier is: "9" is all that was received.
func replicaStatus(seconds, receiver, applier, executed string) mysqlAnswer {
	return mysqlAnswer{
		columns: []string{
			"Replica_IO_Running", "Replica_SQL_Running", "Seconds_Behind_Source", "Last_Errno",
			"Source_Log_File", "Read_Source_Log_Pos", "Relay_Source_Log_File", "Exec_Source_Log_Pos",
		},
		rows: [][]any{{receiver, applier, nullable(seconds), "0", "binlog.000002", "9", "binlog.000002", executed}},
	}
}

func nullable(v string) any {
	if v == "NULL" {
		return nil
	}
	return v
}

// older gives an answer the column names of before MySQL 8.0.22.
func older(a mysqlAnswer) mysqlAnswer {
	names := make([]string, len(a.columns))
	for i, c := range a.columns {
		names[i] = strings.NewReplacer("Source", "Master", "Replica", "Slave").Replace(c)
	}
	return mysqlAnswer{columns: names, rows: a.rows}
}

// mysqlDuo is a fake MySQL primary and a replica.
type mysqlDuo struct {
	*replica.MySQL

	cfg              replica.MySQLConfig
	primary, replica *fakeMySQL
}

func newMySQLDuo(t *testing.T, change func(*mysqlDuo)) *mysqlDuo {
	t.Helper()
	d := &mysqlDuo{
		primary: serveMySQL(t, mysql8("primary", "0", sourceUUID+":1-100")),
		replica: serveMySQL(t, mysql8("replica", "1", strings.ToLower(sourceUUID)+":1-100")),
	}
	d.cfg = replica.MySQLConfig{
		Name: "orders", MaxLag: time.Second, PollInterval: 10 * time.Millisecond, Logger: quiet(),
		Primary:  sqlpool.MySQLConfig{URL: d.primary.url(), Start: poolkeeper.StartDegraded, Logger: quiet()},
		Replicas: []sqlpool.MySQLConfig{{URL: d.replica.url(), Start: poolkeeper.StartDegraded, Logger: quiet()}},
	}
	if change != nil {
		change(d)
	}
	r, err := replica.NewMySQL(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Abort() }) // a test that wants the outcome has stopped it before
	d.MySQL = r
	return d
}

func startMySQLDuo(t *testing.T, change func(*mysqlDuo)) *mysqlDuo {
	t.Helper()
	d := newMySQLDuo(t, change)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// reader names the server that answers a read.
func (d *mysqlDuo) reader(t *testing.T) string {
	t.Helper()
	var name string
	if err := d.Replica().DB().QueryRowContext(t.Context(), "select who").Scan(&name); err != nil {
		return err.Error()
	}
	return name
}

// becomes waits until the replica has a state for a reason.
func (d *mysqlDuo) becomes(t *testing.T, want replica.State, reason string) replica.Member {
	t.Helper()
	var m replica.Member
	eventually(t, fmt.Sprintf("the replica is %s: %s", want, reason), func() bool {
		m = d.Members()[1]
		return m.State == want && strings.Contains(fmt.Sprint(m.Err), reason)
	})
	if m.InRotation != (want == replica.StateReady) {
		t.Errorf("%+v", m)
	}
	return m
}

func TestMySQLReplicaIsReadWhileItHasWhatThePrimaryHadLately(t *testing.T) {
	d := newMySQLDuo(t, nil)
	if got := d.reader(t); got != "primary" {
		t.Errorf("before Start reads go to %q, want the primary: nothing is known of the replica", got)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := d.becomes(t, replica.StateReady, ""); !m.HasLag || m.Lag != 0 {
		t.Errorf("%+v", m)
	}
	if got := d.reader(t); got != "replica" {
		t.Errorf("reads go to %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { _ = d.Replica() }); n != 0 {
		t.Errorf("%v allocations to choose a replica", n)
	}
	if status, err := sqltest.Verdict(t, d.Check); status != health.StatusPass {
		t.Errorf("%s: %v", status, err)
	}

	// Its threads apply what they like first: that it has the last transaction says nothing of
	// those before.
	d.primary.set(askGTIDs, row("ON", sourceUUID+":1-110"))
	d.replica.set(askGTIDs, row("ON", sourceUUID+":1-104:106-110,\n"+replicaUUID+":1-3"))
	d.becomes(t, replica.StateLagging, "behind; MaxLag is 1s")
	if got := d.reader(t); got != "primary" {
		t.Errorf("reads go to %q", got)
	}
	d.replica.set(askGTIDs, row("ON", sourceUUID+":1-104:105:106-110,\n"+replicaUUID+":1-3"))
	d.becomes(t, replica.StateReady, "")
	if n := d.replica.count(askReplica); n > 1 { // once, if the replica answered before the primary at the start
		t.Errorf("SHOW REPLICA STATUS was asked %d times; GTIDs tell, and need no privilege", n)
	}
}

func TestMySQLWithoutGTIDsTellsLagByItsOwnWord(t *testing.T) {
	denied := mysqlAnswer{err: &mysql.MySQLError{Number: 1227, Message: "Access denied; you need (at least one of) the REPLICATION CLIENT privilege(s)"}}
	d := startMySQLDuo(t, func(d *mysqlDuo) {
		d.primary.set(askGTIDs, row("OFF", ""))
		d.replica.set(askGTIDs, row("OFF_PERMISSIVE", ""))
		d.replica.set(askReplica, replicaStatus("0", "Yes", "Yes", "9"))
	})
	d.becomes(t, replica.StateReady, "")
	d.replica.set(askReplica, replicaStatus("3", "Yes", "Yes", "5"))
	if m := d.becomes(t, replica.StateLagging, "3s behind; MaxLag is 1s"); m.Lag != 3*time.Second {
		t.Errorf("%+v", m)
	}
	d.replica.set(askReplica, replicaStatus("NULL", "No", "Yes", "9")) // it has all it was sent, and is sent no more
	d.becomes(t, replica.StateLagging, "the primary's gtid_mode is OFF, and the replica's gtid_mode is OFF_PERMISSIVE, and replication does not run (receiver: No, applier: Yes")
	d.replica.set(askReplica, denied)
	d.becomes(t, replica.StateLagging, "show replica status: Error 1227 (HY000): Access denied; you need (at least one of) the REPLICATION CLIENT")
	d.replica.set(askReplica, mysqlAnswer{columns: []string{"Replica_IO_Running"}})
	d.becomes(t, replica.StateLagging, "it replicates from no server")

	t.Run("of several sources the worst counts", func(t *testing.T) {
		two := replicaStatus("0", "Yes", "Yes", "9")
		two.rows = append(two.rows, replicaStatus("7", "Yes", "Yes", "5").rows[0])
		d.replica.set(askReplica, two)
		d.becomes(t, replica.StateLagging, "7s behind")
		two.rows = append([][]any{replicaStatus("NULL", "Yes", "No", "5").rows[0]}, two.rows...)
		d.replica.set(askReplica, two)
		d.becomes(t, replica.StateLagging, "applier: No")
	})

	t.Run("before MySQL 8.0.22 it has another name", func(t *testing.T) {
		d.replica.set(askSlave, older(replicaStatus("4", "Yes", "Yes", "9")))
		d.replica.set(askReplica, mysqlAnswer{err: &mysql.MySQLError{Number: 1064, Message: "syntax"}})
		d.becomes(t, replica.StateLagging, "4s behind")
		d.replica.set(askSlave, older(replicaStatus("1", "Yes", "Yes", "9")))
		d.becomes(t, replica.StateReady, "")
		d.replica.set(askSlave, denied)
		d.becomes(t, replica.StateLagging, "show slave status: Error 1227")
	})
}

func TestMySQLReplicaThatHasAppliedAllIsReadWhenThePrimaryWasNeverSeen(t *testing.T) {
	d := startMySQLDuo(t, func(d *mysqlDuo) {
		d.primary.down()
		d.replica.set(askReplica, replicaStatus("NULL", "Connecting", "Yes", "9"))
	})
	d.becomes(t, replica.StateReady, "")
	d.replica.set(askReplica, replicaStatus("NULL", "Connecting", "Yes", "5"))
	d.becomes(t, replica.StateLagging, "replication does not run (receiver: Connecting")
}

func TestMySQLPrimaryThatDoesNotTellIsNamedAsTheReason(t *testing.T) {
	d := startMySQLDuo(t, func(d *mysqlDuo) {
		d.primary.set(askRole, row("0", "0", "10.11.6-MariaDB-log"))
		d.primary.set("select @@global.log_bin", row("0", "", "", "0"))
		d.replica.set(askRole, row("READ_ONLY_NO_LOCK", "0", "12.1.2-MariaDB"))
		d.replica.set("select @@global.log_bin", row("0", "", "0-1-7", "0"))
		d.replica.set("show all slaves status", older(replicaStatus("NULL", "Yes", "Yes", "9")))
	})
	d.becomes(t, replica.StateLagging, "the primary's log_bin is off: it has no replicas, and the replica's replication does not run")
	d.replica.set("show all slaves status", older(replicaStatus("5", "Yes", "Yes", "9")))
	d.becomes(t, replica.StateLagging, "5s behind")
	d.primary.set("select @@global.log_bin", row("1", "0-1-8", "", "0"))
	d.becomes(t, replica.StateLagging, "behind")
	d.replica.set("select @@global.log_bin", row("0", "", "0-1-8", "0"))
	d.becomes(t, replica.StateReady, "")
}

func TestMariaDBPromotedWithoutWritingSinceIsWhereItHadApplied(t *testing.T) {
	d := startMySQLDuo(t, func(d *mysqlDuo) {
		d.primary.set(askRole, row("0", "0", "10.11.6-MariaDB"))
		d.primary.set("select @@global.log_bin", row("1", "", "0-1-100,5-1-7", "0")) // 5 is what its replicas were never given
		d.replica.set(askRole, row("1", "0", "10.11.6-MariaDB"))
		d.replica.set("select @@global.log_bin", row("1", "", "0-1-90", "0"))
		d.replica.set("show all slaves status", mysqlAnswer{columns: []string{"a"}})
	})
	d.becomes(t, replica.StateLagging, "not known")
	d.replica.set("select @@global.log_bin", row("1", "", "0-1-100", "0"))
	d.becomes(t, replica.StateReady, "")
}

func TestMySQLServerThatTalksNonsenseIsDown(t *testing.T) {
	for name, hit := range map[string]func(*fakeMySQL){
		"no row":             func(s *fakeMySQL) { s.set(askRole, mysqlAnswer{columns: []string{"a"}}) },
		"too few columns":    func(s *fakeMySQL) { s.set(askRole, row("1")) },
		"no set of GTIDs":    func(s *fakeMySQL) { s.set(askGTIDs, row("ON", "0-1-7")) },
		"GTIDs are refused":  func(s *fakeMySQL) { s.set(askGTIDs, mysqlAnswer{err: &mysql.MySQLError{Number: 1193}}) },
		"no GTID of MariaDB": func(s *fakeMySQL) { s.maria("1", "0-1", "0-1-2", "0") },
		"no domain":          func(s *fakeMySQL) { s.maria("1", "0-1-2", "0-1-2", "x") },
		"other columns":      func(s *fakeMySQL) { s.maria("1") },
	} {
		t.Run(name, func(t *testing.T) {
			d := startMySQLDuo(t, func(d *mysqlDuo) { hit(d.replica) })
			if m := d.becomes(t, replica.StateDown, ""); m.Err == nil || m.HasLag {
				t.Errorf("%+v", m)
			}
			if got := d.reader(t); got != "primary" {
				t.Errorf("reads go to %q", got)
			}
		})
	}
}

func TestMySQLReplicaThatDiesInMidAnswerIsDownAndNotBehind(t *testing.T) {
	status := replicaStatus("0", "Yes", "Yes", "9")
	status.cut = true
	d := startMySQLDuo(t, func(d *mysqlDuo) {
		d.replica.set(askGTIDs, row("OFF", ""))
		d.replica.set(askReplica, status)
	})
	if m := d.becomes(t, replica.StateDown, ""); health.Classify(m.Err).Kind != health.KindReset {
		t.Errorf("%+v, want the loss of the connection", m)
	}
}

func TestMySQLPlacesOfDifferentKindsTellNothing(t *testing.T) {
	for name, hit := range map[string]func(*mysqlDuo){
		"MariaDB's replica": func(d *mysqlDuo) { d.replica.maria("1", "", "0-1-7", "0") },
		"MySQL's replica": func(d *mysqlDuo) {
			d.primary.maria("1", "0-1-7", "", "0")
			d.primary.set(askRole, row("0", "0", "10.11.6-MariaDB"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startMySQLDuo(t, func(d *mysqlDuo) {
				hit(d)
				d.replica.set("show all slaves status", mysqlAnswer{columns: []string{"a"}})
			})
			if m := d.becomes(t, replica.StateLagging, "not known"); m.HasLag {
				t.Errorf("%+v", m)
			}
		})
	}
}

func (s *fakeMySQL) maria(values ...any) {
	s.set(askRole, row("1", "0", "10.11.6-MariaDB"))
	s.set("select @@global.log_bin", row(values...))
}

func TestMySQLRoleIsToldByReadOnlyOfEitherKind(t *testing.T) {
	d := startMySQLDuo(t, func(d *mysqlDuo) { d.cfg.MaxLag = poolkeeper.Off })
	d.becomes(t, replica.StateReady, "")
	d.replica.set(askRole, row("0", "0", "8.0.36"))
	d.becomes(t, replica.StatePromoted, "read_only was never set")
	d.replica.set(askRole, row("0", "1", "8.0.36")) // a reader of Aurora
	d.becomes(t, replica.StateReady, "")
	if n := d.replica.count(askGTIDs) + d.primary.count(askGTIDs); n != 0 {
		t.Errorf("positions were asked for %d times though MaxLag is Off", n)
	}
	d.primary.set(askRole, row("ON", "0", "8.0.36"))
	eventually(t, "the demotion is seen", func() bool { return d.Members()[0].State == replica.StateDemoted })
	if err := d.Check(t.Context()); health.Classify(err).Kind != health.KindReadOnly || !strings.Contains(fmt.Sprint(err), "read_only is on") {
		t.Error(err)
	}
}

func TestMySQLFallbackNoneRefusesWithAnErrorThatCanBeTold(t *testing.T) {
	d := startMySQLDuo(t, func(d *mysqlDuo) { d.cfg.Fallback = replica.FallbackNone })
	d.becomes(t, replica.StateReady, "")
	d.replica.down()
	d.becomes(t, replica.StateDown, "")
	if _, err := d.Replica().DB().ExecContext(t.Context(), "select who"); !errors.Is(err, replica.ErrNoReplica) {
		t.Errorf("%v, want ErrNoReplica", err)
	}
	if _, err := d.BeginReadOnly(t.Context()); !errors.Is(err, replica.ErrNoReplica) {
		t.Errorf("%v, want ErrNoReplica", err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := d.Replica().DB().ExecContext(t.Context(), "select who"); err == nil || errors.Is(err, replica.ErrNoReplica) {
		t.Errorf("%v after Stop, want that it is closed", err)
	}
	if err := d.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestMySQLReloadPauseAndStatsCoverBothPools(t *testing.T) {
	d := startMySQLDuo(t, nil)
	d.SetName("shop")
	d.becomes(t, replica.StateReady, "")
	if got := d.reader(t); got != "replica" {
		t.Errorf("reads go to %q", got)
	}
	if s := d.Stats(); s.Use.Count != 1 || s.Dials != 1 {
		t.Errorf("%+v", s)
	}
	if text := fmt.Sprint(d.Settings()); !strings.Contains(text, "replica-1=[") || strings.Contains(text, "mysql://") {
		t.Error(text)
	}
	limits, err := d.Limits(t.Context())
	if err != nil || len(limits) != 2 || limits["primary"].MaxConnections != 151 {
		t.Errorf("%+v, %v", limits, err)
	}
	if err = d.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	d.Resume()
	d.Reset()

	next := d.cfg
	next.Replicas = append([]sqlpool.MySQLConfig(nil), d.cfg.Replicas...)
	next.Replicas[0].URL = "postgres://db/orders"
	if err = d.Reload(t.Context(), next); err == nil || !strings.Contains(err.Error(), "NewPostgres that takes it") {
		t.Errorf("%v, want the URL refused", err)
	}
	next.Replicas[0] = d.cfg.Replicas[0]
	next.Replicas[0].MaxOpen, next.Fallback = 3, replica.FallbackNone
	if err = d.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if n := d.Replicas()[0].Stats().Max; n != 3 {
		t.Errorf("MaxOpen is %d, want 3", n)
	}
	d.replica.set(askRole, row("0", "0", "8.0.36"))
	eventually(t, "the new Fallback holds", func() bool {
		_, err = d.Replica().DB().ExecContext(t.Context(), "select who")
		return errors.Is(err, replica.ErrNoReplica)
	})
	if err = d.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestSetOfOneKindRefusesURLsOfAnother(t *testing.T) {
	_, err := replica.NewMySQL(replica.MySQLConfig{
		Primary:  sqlpool.MySQLConfig{URL: "postgres://db/orders", MaxOpen: -1},
		Replicas: []sqlpool.MySQLConfig{{URL: "mysql://db:bad:port/"}, {Name: "third", URL: "postgresql://db/"}}, MaxLag: -2,
	})
	for _, want := range []string{
		"primary: replica: URL is PostgreSQL's; it is NewPostgres that takes it", "third: replica: URL is PostgreSQL's",
		"primary: sqlpool: MaxOpen is -1", "replica-1: sqlpool: URL cannot be parsed", "MaxLag is -2ns",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	mixed := replica.MySQLConfig{Primary: sqlpool.MySQLConfig{URL: "mariadb://a/"}, Replicas: []sqlpool.MySQLConfig{{URL: "mysql://b/"}}}
	if err = mixed.Validate(); err != nil {
		t.Error(err)
	}
	mixed.Replicas[0].URL = "postgres://b/"
	if err = mixed.Validate(); err == nil || !strings.Contains(err.Error(), "replica-1: replica: URL is PostgreSQL's") {
		t.Error(err)
	}
	dsn, err := replica.NewMySQL(replica.MySQLConfig{
		Primary: sqlpool.MySQLConfig{URL: "root@tcp(a:3306)/orders"}, Replicas: []sqlpool.MySQLConfig{{URL: "mysql://b/orders"}},
	})
	if err != nil {
		t.Fatalf("the driver's own form of URL: %v", err)
	}
	for range 2 { // without Start
		if err = dsn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
