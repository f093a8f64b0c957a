package replica_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// pair is a real primary and a real standby that streams from it, under one Postgres.
type pair struct {
	*replica.Postgres

	primary, standby *testserver.Server
}

func newPair(t *testing.T, change func(*replica.PostgresConfig)) *pair {
	t.Helper()
	p := &pair{primary: testserver.Postgres(t)}
	p.standby = testserver.PostgresStandby(t, p.primary, "wal_retrieve_retry_interval=100ms")
	cfg := replica.PostgresConfig{
		Name: "orders", MaxLag: time.Second, PollInterval: 50 * time.Millisecond, PollTimeout: time.Second, Logger: quiet(),
		Primary:  sqlpool.PostgresConfig{URL: p.primary.URL(), Logger: quiet()},
		Replicas: []sqlpool.PostgresConfig{{URL: p.standby.URL(), Logger: quiet()}},
	}
	if change != nil {
		change(&cfg)
	}
	r, err := replica.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Postgres = r
	t.Cleanup(func() { _ = r.Abort() })
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.write(t, "create table orders (n int)")
	return p
}

func (p *pair) write(t *testing.T, sql string) {
	t.Helper()
	if _, err := p.Primary().Pool().Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// onStandby says whether a read goes to the standby now.
func (p *pair) onStandby(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var standby bool
	err := p.Replica().Pool().QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby)
	return err == nil && standby
}

// becomes waits until the replica has a state, and reads go where that implies.
func (p *pair) becomes(t *testing.T, want replica.State) {
	t.Helper()
	awaitState(t, p, want)
	eventually(t, "reads are served by the right one", func() bool { return p.onStandby(t) == (want == replica.StateReady) })
}

func TestStreamingReplicaIsReadWhileItKeepsUp(t *testing.T) {
	testkit.Slow(t)
	p := newPair(t, nil)
	p.becomes(t, replica.StateReady)

	t.Run("what was written comes to be read", func(t *testing.T) {
		p.write(t, "insert into orders values (42)")
		eventually(t, "the row is there", func() bool {
			var n int
			err := pgx.BeginTxFunc(t.Context(), p.Replica().Pool(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				return tx.QueryRow(t.Context(), "select n from orders").Scan(&n)
			})
			return err == nil && n == 42 && p.onStandby(t)
		})
	})

	t.Run("an idle primary makes no lag", func(t *testing.T) {
		hasNoLagWhileIdle(t, p, func() { _ = p.onStandby(t) })
	})

	t.Run("it takes no privilege to poll", func(t *testing.T) {
		p.write(t, "create role plain login")
		plain := func(s *testserver.Server) sqlpool.PostgresConfig {
			return sqlpool.PostgresConfig{URL: strings.Replace(s.URL(), "postgres://postgres@", "postgres://plain@", 1), Logger: quiet(), Start: poolkeeper.StartWaitForServer}
		}
		r, err := replica.NewPostgres(replica.PostgresConfig{
			Primary: plain(p.primary), Replicas: []sqlpool.PostgresConfig{plain(p.standby)}, Logger: quiet(), PollInterval: 20 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err = r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both are ready, and the lag is known", func() bool {
			m := r.Members()
			return m[0].State == replica.StateReady && m[1].State == replica.StateReady && m[1].HasLag
		})
		if err = r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("paused replay is seen, and its end", func(t *testing.T) {
		sqltest.Exec(t, p.standby, "select pg_wal_replay_pause()")
		p.write(t, "insert into orders values (43)")
		p.becomes(t, replica.StateLagging)
		if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "behind; MaxLag is 1s") {
			t.Errorf("%v, want a reservation that says how far it is behind", err)
		}
		// One that begins only now has not seen the primary where the standby is.
		late, err := replica.NewPostgres(replica.PostgresConfig{
			Primary: sqlpool.PostgresConfig{URL: p.primary.URL()}, Replicas: []sqlpool.PostgresConfig{{URL: p.standby.URL()}}, MaxLag: time.Second, Logger: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err = late.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := late.Members()[1]
		if m.State != replica.StateLagging || m.InRotation || m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "not reached") {
			t.Errorf("%+v, want a replica that is not read, and not the age of its last transaction", m)
		}
		if err = late.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		sqltest.Exec(t, p.standby, "select pg_wal_replay_resume()")
		p.becomes(t, replica.StateReady)
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})

	t.Run("a standby that has lost its primary is behind once something is written", func(t *testing.T) {
		var conninfo string
		admin := sqltest.Postgres(t, p.standby)
		defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
		if err := admin.QueryRow(t.Context(), "show primary_conninfo").Scan(&conninfo); err != nil {
			t.Fatal(err)
		}
		set := func(to string) {
			sqltest.Exec(t, p.standby, "alter system set primary_conninfo = '"+strings.ReplaceAll(to, "'", "''")+"'")
			sqltest.Exec(t, p.standby, "select pg_reload_conf()")
		}
		set("host=127.0.0.1 port=1")
		eventually(t, "nothing streams", func() bool {
			var n int
			err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_wal_receiver").Scan(&n)
			return err == nil && n == 0
		})
		p.write(t, "insert into orders values (44)")
		p.becomes(t, replica.StateLagging) // though it has replayed all it has received
		set(conninfo)
		p.becomes(t, replica.StateReady)
	})
}

func TestFrozenAndKilledReplicaIsLeftAloneUntilItIsBack(t *testing.T) {
	testkit.Slow(t)
	p := newPair(t, nil)
	isLeftAloneWhileItIsAway(t, p, p.standby)

	// INV-9, seen from both servers.
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	for _, s := range []*testserver.Server{p.primary, p.standby} {
		admin := sqltest.Postgres(t, s)
		eventually(t, "no connection is left", func() bool {
			var n int
			err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").Scan(&n)
			return err == nil && n == 0
		})
		_ = admin.Close(t.Context())
	}
}

func TestPromotedStandbyTakesOverBehindTheSameHandles(t *testing.T) {
	var both string
	p := newPair(t, func(cfg *replica.PostgresConfig) {
		primary := strings.TrimPrefix(cfg.Primary.URL, "postgres://postgres@")
		standby := strings.TrimPrefix(cfg.Replicas[0].URL, "postgres://postgres@")
		addr, rest, _ := strings.Cut(primary, "/")
		other, _, _ := strings.Cut(standby, "/")
		both = fmt.Sprintf("postgres://postgres@%s,%s/%s", addr, other, rest)
		cfg.Primary.URL = both + "&target_session_attrs=read-write"
	})
	p.becomes(t, replica.StateReady)
	handle := p.Primary().Pool()
	p.write(t, "insert into orders values (1)")
	eventually(t, "the standby has it", func() bool {
		var n int
		return p.Replicas()[0].Pool().QueryRow(t.Context(), "select n from orders").Scan(&n) == nil
	})

	p.primary.Kill(t)
	eventually(t, "the loss is seen", func() bool { return p.Members()[0].State == replica.StateDown })
	if !p.onStandby(t) {
		t.Error("reads do not go on while there is no primary")
	}
	sqltest.Exec(t, p.standby, "select pg_promote()")
	eventually(t, "writes reach the new primary", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := handle.Exec(ctx, "insert into orders values (2)")
		return err == nil
	})
	eventually(t, "the component agrees", func() bool {
		m := p.Members()
		return m[0].State == replica.StateReady && m[1].State == replica.StatePromoted && m[0].InRotation
	})

	// The old primary comes back as a standby, and is not mistaken for the primary.
	if err := os.WriteFile(filepath.Join(p.primary.Dir(), "data", "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.primary.Restart(t)
	p.Reset()
	for i := range 20 {
		if _, err := handle.Exec(t.Context(), "insert into orders values ($1)", i); err != nil {
			t.Fatalf("a write reached the demoted server: %v", err)
		}
	}
	if err := p.Check(t.Context()); err == nil || strings.Contains(err.Error(), "orders/primary") {
		t.Errorf("%v, want a reservation about the replica alone", err)
	}
}

func TestKilledReplicaCostsTheReadsInFlight(t *testing.T) {
	testkit.Slow(t)
	p := newPair(t, func(cfg *replica.PostgresConfig) { cfg.PollInterval, cfg.MaxLag = 0, 0 })
	costsTheReadsInFlight(t, p, p.standby, func(ctx context.Context) error {
		var n int
		return p.Replica().Pool().QueryRow(ctx, "select 1").Scan(&n)
	})
}
