package replica_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// judged is a primary and replicas that are never dialled: the test tells each poll, one a second.
type judged struct {
	*replica.Postgres

	t      *testing.T
	mu     sync.Mutex // guards events
	events []poolkeeper.Event
}

func newJudged(t *testing.T, replicas int, change func(*replica.PostgresConfig)) *judged {
	t.Helper()
	one := sqlpool.PostgresConfig{URL: "postgres://127.0.0.1/orders", Logger: quiet()}
	cfg := replica.PostgresConfig{
		Name: "orders", Logger: quiet(), Primary: one, Replicas: slices.Repeat([]sqlpool.PostgresConfig{one}, replicas),
		Isolation: poolkeeper.Isolation{MinScore: 75},
	}
	if change != nil {
		change(&cfg)
	}
	r, err := replica.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Abort() })
	j := &judged{Postgres: r, t: t}
	r.Subscribe(func(e poolkeeper.Event) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.events = append(j.events, e)
	})
	return j
}

// run polls every server once in each of these seconds. of has the answer of each replica.
func (j *judged) run(seconds int, of ...replica.Told) {
	j.t.Helper()
	for range seconds {
		time.Sleep(time.Second)
		for i, told := range append([]replica.Told{{}}, of...) {
			told.At, told.Standby, told.LSN = time.Now(), i > 0, 100
			if err := j.Record(j.t.Context(), i, told); err != nil {
				j.t.Fatal(err)
			}
		}
	}
}

// kinds returns the kinds of the events so far, and forgets them.
func (j *judged) kinds() (out []poolkeeper.EventKind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		out = append(out, e.Kind)
	}
	j.events = nil
	return out
}

// shares returns how many of 200 reads each replica gets; the last is the primary.
func (j *judged) shares() []int {
	pools := append(j.Replicas(), j.Primary())
	out := make([]int, len(pools))
	for range 200 {
		out[slices.Index(pools, j.Replica())]++
	}
	return out
}

var (
	wellTold = replica.Told{}
	slowTold = replica.Told{Took: 100 * time.Millisecond}
	downTold = replica.Told{Err: errors.New("refused")}
)

func TestSlowReplicaIsIsolatedTriedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudged(t, 2, nil)
		j.run(20, wellTold, wellTold)
		j.kinds()
		j.run(16, slowTold, wellTold)
		if got := j.shares(); !slices.Equal(got, []int{0, 200, 0}) {
			t.Errorf("%v of the reads", got)
		}
		m, now := j.Members()[1], time.Now()
		if m.State != replica.StateIsolated || m.InRotation || m.Score != 60 || !m.HasScore || !m.Since.Before(now) || !m.NextTrial.After(now) {
			t.Errorf("%+v", m)
		}
		const why = "score 60, MinScore is 75: checks take 100ms and those of the others 1ms"
		if m.Err == nil || m.Err.Error() != why || health.Classify(m.Err).Kind != "slow" {
			t.Errorf("%v", m.Err)
		}
		s := j.Stats().Members[1]
		if s.State != "isolated" || !s.Isolated || s.Why != why || s.Score != 60 || !s.NextTrial.Equal(m.NextTrial) {
			t.Errorf("%+v", s)
		}
		for range 31 { // 30 s, or less at random
			if j.Members()[1].State == replica.StateIsolated {
				j.run(1, wellTold, wellTold)
			}
		}
		if m := j.Members()[1]; m.State != replica.StateTrial || !m.InRotation || !m.NextTrial.IsZero() {
			t.Fatalf("%+v", m)
		}
		if got := j.shares(); !slices.Equal(got, []int{10, 190, 0}) {
			t.Errorf("%v of the reads", got)
		}
		j.run(10, wellTold, wellTold)
		if m := j.Members()[1]; m.State != replica.StateReady || m.Err != nil {
			t.Errorf("%+v", m)
		}
		if got := j.shares(); !slices.Equal(got, []int{100, 100, 0}) {
			t.Errorf("%v of the reads", got)
		}
		want := []poolkeeper.EventKind{poolkeeper.EventMemberIsolated, poolkeeper.EventMemberTrial, poolkeeper.EventMemberBack}
		if got := j.kinds(); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

func TestErrorsOfTrafficIsolateAReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudged(t, 3, nil)
		j.run(30, wellTold, replica.Told{Failures: 9}, wellTold)
		if m := j.Members()[2]; m.State != replica.StateIsolated || !strings.Contains(m.Err.Error(), "90% of the requests fail") {
			t.Errorf("%+v", m)
		}
	})
}

func TestWithoutIsolationNothingIsJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudged(t, 2, func(c *replica.PostgresConfig) { c.Isolation = poolkeeper.Isolation{} })
		j.run(100, replica.Told{Took: time.Second, Failures: 100}, wellTold)
		if m := j.Members()[1]; m.State != replica.StateReady || m.HasScore {
			t.Errorf("%+v", m)
		}
	})
}

func TestTheLastReplicaIsNeverIsolated(t *testing.T) { // INV-16
	synctest.Test(t, func(t *testing.T) {
		bad := replica.Told{Took: time.Second, Failures: 9}
		one := newJudged(t, 1, nil)
		one.run(60, bad)
		both := newJudged(t, 2, func(c *replica.PostgresConfig) { c.Isolation.SlowLatency = 50 * time.Millisecond })
		both.run(60, bad, bad)
		for _, j := range []*judged{one, both} {
			for _, m := range j.Members()[1:] {
				if m.State != replica.StateReady || !m.InRotation || j.Stats().Members[1].Isolated {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}

// Isolated replicas are better than none, and better than what Fallback says.
func TestIsolatedReplicaIsReadWhileNoOtherIsFit(t *testing.T) {
	for _, fallback := range []replica.Fallback{replica.FallbackPrimary, replica.FallbackStale, replica.FallbackNone} {
		synctest.Test(t, func(t *testing.T) {
			j := newJudged(t, 2, func(c *replica.PostgresConfig) { c.Fallback = fallback })
			j.run(16, slowTold, wellTold)
			j.run(3, slowTold, downTold)
			if got := j.shares(); !slices.Equal(got, []int{200, 0, 0}) {
				t.Errorf("%v of the reads", got)
			}
			if m := j.Members()[1]; m.State != replica.StateIsolated || !m.InRotation {
				t.Errorf("%+v", m)
			}
			j.run(3, slowTold, wellTold)
			if got := j.shares(); !slices.Equal(got, []int{0, 200, 0}) {
				t.Errorf("%v of the reads", got)
			}
		})
	}
}

func TestReloadTurnsIsolationOnAndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cfg replica.PostgresConfig
		j := newJudged(t, 2, func(c *replica.PostgresConfig) { cfg = *c })
		j.run(16, slowTold, wellTold)
		cfg.Isolation.MinScore = 0
		changes, err := j.Plan(cfg)
		want := poolkeeper.Change{Field: "Isolation", From: "{MinScore:75}", To: "{}"}
		if err != nil || !slices.Equal(changes, []poolkeeper.Change{want}) {
			t.Errorf("%+v, %v", changes, err)
		}
		if err = j.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if m := j.Members()[1]; m.State != replica.StateReady || !m.InRotation || m.HasScore {
			t.Errorf("%+v", m)
		}
		cfg.Isolation = poolkeeper.Isolation{MinScore: 101, After: time.Second}
		_, err = j.Plan(cfg)
		for _, part := range []string{"Isolation.MinScore is 101", "Isolation.After is 1s; it must be at least 6s"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("nothing of %q in %v", part, err)
			}
		}
	})
}

// isolatesQuickly is quick, so that a test on real servers sees the whole of it.
func isolatesQuickly() poolkeeper.Isolation {
	return poolkeeper.Isolation{
		MinScore: 75, After: 2 * time.Second, Retry: time.Second, MaxRetry: time.Second, FastLatency: 20 * time.Millisecond,
	}
}

func TestReadsLeaveASlowStandbyAndReturn(t *testing.T) {
	testkit.Slow(t)
	primary := testserver.Postgres(t)
	cfg := replica.PostgresConfig{
		Name: "orders", PollInterval: 50 * time.Millisecond, Logger: quiet(), Primary: sqlpool.PostgresConfig{URL: primary.URL(), Logger: quiet()},
		Isolation: isolatesQuickly(),
	}
	var networks []*testkit.Proxy
	for range 2 {
		n, url := slowable(t, testserver.PostgresStandby(t, primary))
		networks = append(networks, n)
		cfg.Replicas = append(cfg.Replicas, sqlpool.PostgresConfig{URL: url, Logger: quiet()})
	}
	r, err := replica.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Abort() })
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	readsLeaveAndReturn(t, r, networks, func(ctx context.Context) {
		_, _ = r.Replica().Pool().Exec(ctx, "select pg_sleep(0.005)")
	})
}

func TestReadsLeaveASlowMariaDBReplicaAndReturn(t *testing.T) {
	testkit.Slow(t)
	primary := testserver.MariaDBPrimary(t)
	cfg := replica.MySQLConfig{
		Name: "orders", PollInterval: 50 * time.Millisecond, Logger: quiet(), Primary: sqlpool.MySQLConfig{URL: primary.URL(), Logger: quiet()},
		Isolation: isolatesQuickly(),
	}
	var networks []*testkit.Proxy
	for _, id := range []string{"2", "3"} {
		n, url := slowable(t, testserver.MariaDBReplica(t, primary, "--server-id="+id))
		networks = append(networks, n)
		cfg.Replicas = append(cfg.Replicas, sqlpool.MySQLConfig{URL: url, Logger: quiet()})
	}
	r := startMySQL(t, cfg)
	readsLeaveAndReturn(t, r, networks, func(ctx context.Context) {
		_, _ = r.Replica().DB().ExecContext(ctx, "do sleep(0.005)")
	})
}

// slowable returns the network to a server, and the server's URL on it.
func slowable(t *testing.T, s *testserver.Server) (network *testkit.Proxy, url string) {
	t.Helper()
	network = testkit.NewProxy(t, s.Addr())
	return network, strings.Replace(s.URL(), s.Addr(), network.Addr(), 1)
}

// isolated is a primary with two replicas.
type isolated interface {
	Members() []replica.Member
	Stats() poolkeeper.Stats
	Check(ctx context.Context) error
}

// readsLeaveAndReturn makes the network to one of two real replicas slow. Its reads must go to the
// other one, until it is quick again. When both are slow, both must serve. read reads once.
func readsLeaveAndReturn(t *testing.T, r isolated, networks []*testkit.Proxy, read func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	t.Cleanup(readers.Wait)
	t.Cleanup(cancel)
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				read(ctx)
			}
		})
	}
	states := func() []replica.State { return []replica.State{r.Members()[1].State, r.Members()[2].State} }
	both := []replica.State{replica.StateReady, replica.StateReady}
	eventually(t, "both serve", func() bool { return slices.Equal(states(), both) })

	networks[0].DelayAll(300 * time.Millisecond)
	eventually(t, "the slow one is isolated", func() bool { return r.Members()[1].State == replica.StateIsolated })
	if m := r.Members(); m[1].InRotation || !m[2].InRotation || health.Classify(r.Check(t.Context())).Kind != "slow" {
		t.Errorf("%+v, check: %v", m[1:], r.Check(t.Context()))
	}
	before := r.Stats().Members
	eventually(t, "the other one serves", func() bool { return r.Stats().Members[2].Stats.Use.Count > before[2].Stats.Use.Count+50 })

	networks[0].DelayAll(0)
	eventually(t, "it is tried and serves again", func() bool { return slices.Equal(states(), both) })

	for _, n := range networks {
		n.DelayAll(300 * time.Millisecond)
	}
	for since := time.Now(); time.Since(since) < 6*time.Second; {
		if !slices.Equal(states(), both) {
			t.Fatalf("both are slow, and one is isolated: %+v", r.Members()[1:])
		}
		<-time.After(10 * time.Millisecond)
	}
}

// One on trial makes a longer list, and Replica no dearer: compare with BenchmarkReplica.
func BenchmarkReplicaWhileOneIsOnTrial(b *testing.B) {
	one := sqlpool.PostgresConfig{URL: "postgres://127.0.0.1/orders", Logger: quiet()}
	r, err := replica.NewPostgres(replica.PostgresConfig{
		Logger: quiet(), Primary: one, Replicas: []sqlpool.PostgresConfig{one, one}, PollInterval: time.Millisecond, MaxLag: poolkeeper.Off,
		Isolation: poolkeeper.Isolation{MinScore: 75, After: 10 * time.Millisecond, Retry: time.Millisecond},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Abort() })
	for r.Members()[1].State != replica.StateTrial {
		slow := wellTold
		if r.Members()[1].State == replica.StateReady {
			slow = slowTold
		}
		for i, told := range []replica.Told{{}, slow, wellTold} {
			told.At, told.Standby = time.Now(), i > 0
			if err := r.Record(b.Context(), i, told); err != nil {
				b.Fatal(err)
			}
		}
		<-time.After(time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Replica()
	}
}
