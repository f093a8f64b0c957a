package replica_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

var (
	_ lifecycle.Component        = (*replica.Postgres)(nil)
	_ lifecycle.Drainer          = (*replica.Postgres)(nil)
	_ lifecycle.Aborter          = (*replica.Postgres)(nil)
	_ lifecycle.Checker          = (*replica.Postgres)(nil)
	_ lifecycle.StatsProvider    = (*replica.Postgres)(nil)
	_ lifecycle.HolderLister     = (*replica.Postgres)(nil)
	_ lifecycle.ObserverSetter   = (*replica.Postgres)(nil)
	_ lifecycle.SettingsProvider = (*replica.Postgres)(nil)
	_ lifecycle.NameSetter       = (*replica.Postgres)(nil)
)

// trio is a primary with two replicas, of fake servers that answer "who" with their names.
type trio struct {
	*replica.Postgres

	cfg     replica.PostgresConfig
	servers []*sqlpooltest.PostgresServer // the primary's first
}

func newTrio(tb testing.TB, change func(*replica.PostgresConfig)) *trio {
	tb.Helper()
	x := &trio{cfg: replica.PostgresConfig{
		Name: "orders", MaxLag: 10 * time.Second, PollInterval: 10 * time.Millisecond, PollTimeout: 5 * time.Second, Logger: quiet(),
	}}
	for i, name := range []string{"primary", "replica-1", "replica-2"} {
		s := sqlpooltest.ServePostgres(tb)
		s.Answer("who", sqlpooltest.Answer{Columns: []string{"name"}, Rows: [][]any{{name}}})
		s.Answer("insert", sqlpooltest.Answer{Affected: 1})
		x.servers = append(x.servers, s)
		c := sqlpool.PostgresConfig{URL: s.URL(), MaxOpen: 2 + i, MaxOpenCeiling: 10, KeepAlive: poolkeeper.Off, Start: poolkeeper.StartDegraded, Logger: quiet()}
		if i == 0 {
			x.cfg.Primary = c
			continue
		}
		s.Standby(0)
		x.cfg.Replicas = append(x.cfg.Replicas, c)
	}
	if change != nil {
		change(&x.cfg)
	}
	r, err := replica.NewPostgres(x.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	x.Postgres = r
	tb.Cleanup(func() { _ = r.Abort() }) // a test that wants the outcome has stopped it before
	return x
}

func startTrio(t *testing.T, change func(*replica.PostgresConfig)) *trio {
	t.Helper()
	x := newTrio(t, change)
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

func who(ctx context.Context, p *sqlpool.Postgres) string {
	var name string
	if err := p.Pool().QueryRow(ctx, "who").Scan(&name); err != nil {
		return err.Error()
	}
	return name
}

// readers names the servers that answer a few reads.
func (x *trio) readers(t *testing.T) string {
	t.Helper()
	seen := map[string]bool{}
	for range 6 {
		seen[who(t.Context(), x.Replica())] = true
	}
	var out []string
	for _, name := range []string{"primary", "replica-1", "replica-2"} {
		if seen[name] {
			out = append(out, name)
			delete(seen, name)
		}
	}
	for other := range seen {
		out = append(out, other)
	}
	return strings.Join(out, " ")
}

func (x *trio) state(i int) replica.State { return x.Members()[i].State }

func TestReplicaGoesRoundTheReplicasAndCostsNothing(t *testing.T) {
	x := newTrio(t, nil)
	if got := x.readers(t); got != "primary" {
		t.Errorf("before Start reads go to %q, want the primary: nothing is known of the replicas", got)
	}
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := x.readers(t); got != "replica-1 replica-2" {
		t.Errorf("reads go to %q, want both replicas", got)
	}
	if got := who(t.Context(), x.Primary()); got != "primary" {
		t.Errorf("the primary is %q", got)
	}
	a, b := x.Replica(), x.Replica()
	if a == b || a != x.Replica() || b != x.Replica() {
		t.Error("replicas do not take turns")
	}
	if n := testing.AllocsPerRun(100, func() { _ = x.Replica() }); n != 0 {
		t.Errorf("%v allocations to choose a replica", n)
	}
	if status, err := sqltest.Verdict(t, x.Check); status != health.StatusPass {
		t.Errorf("%s: %v", status, err)
	}
}

func TestLaggingReplicaIsNotReadUntilItHasCaughtUp(t *testing.T) {
	x := startTrio(t, nil)
	x.servers[1].Standby(11 * time.Second)
	eventually(t, "the lag is seen", func() bool { return x.state(1) == replica.StateLagging })
	if got := x.readers(t); got != "replica-2" {
		t.Errorf("reads go to %q", got)
	}
	m := x.Members()[1]
	if m.Name != "replica-1" || m.InRotation || !m.HasLag || m.Lag != 11*time.Second || m.Err == nil || m.Polled.IsZero() {
		t.Errorf("%+v", m)
	}
	status, err := sqltest.Verdict(t, x.Check)
	if status != health.StatusWarn || !strings.Contains(fmt.Sprint(err), `"orders/replica-1": 11s behind; MaxLag is 10s`) {
		t.Errorf("%s: %v, want a warning that names the replica, its lag and the limit", status, err)
	}
	x.servers[1].Standby(9 * time.Second)
	eventually(t, "it has caught up", func() bool { return x.state(1) == replica.StateReady })
	if got := x.readers(t); got != "replica-1 replica-2" {
		t.Errorf("reads go to %q", got)
	}
}

func TestFallbackSaysWhereReadsGoWithoutAReplica(t *testing.T) {
	for _, c := range []struct {
		fallback           replica.Fallback
		lagging, down, all string
	}{
		{replica.FallbackPrimary, "primary", "primary", "replica-1 replica-2"},
		{replica.FallbackStale, "replica-1 replica-2", "primary", "replica-1 replica-2"},
		{replica.FallbackNone, replica.ErrNoReplica.Error(), replica.ErrNoReplica.Error(), "replica-1 replica-2"},
	} {
		t.Run(c.fallback.String(), func(t *testing.T) {
			x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.Fallback = c.fallback })
			both := func(what string, hit func(*sqlpooltest.PostgresServer), want replica.State) string {
				for _, s := range x.servers[1:] {
					hit(s)
				}
				eventually(t, what, func() bool { return x.state(1) == want && x.state(2) == want })
				return x.readers(t)
			}
			lag := func(s *sqlpooltest.PostgresServer) { s.Standby(time.Minute) }
			if got := both("both lag", lag, replica.StateLagging); got != c.lagging {
				t.Errorf("both lag: %q, want %q", got, c.lagging)
			}
			down := func(s *sqlpooltest.PostgresServer) { s.Refuse() }
			if got := both("both are down", down, replica.StateDown); got != c.down {
				t.Errorf("both down: %q, want %q", got, c.down)
			}
			heal := func(s *sqlpooltest.PostgresServer) { s.Heal(); s.Standby(0) }
			if got := both("both are back", heal, replica.StateReady); got != c.all {
				t.Errorf("both back: %q, want %q", got, c.all)
			}
		})
	}
}

func TestNoReplicaIsAnErrorThatCanBeTold(t *testing.T) {
	x := newTrio(t, func(cfg *replica.PostgresConfig) { cfg.Fallback = replica.FallbackNone })
	if _, err := x.Replica().Pool().Exec(t.Context(), "who"); !errors.Is(err, replica.ErrNoReplica) {
		t.Errorf("%v, want ErrNoReplica", err)
	}
	if err := x.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := x.Replica().Pool().Exec(t.Context(), "who"); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("%v after Stop, want ErrClosed", err)
	}
}

func TestSilentReplicaHoldsUpNeitherTheOthersNorTheCheck(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.PollTimeout = 50 * time.Millisecond })
	x.servers[2].Hang()
	eventually(t, "the silence is noticed", func() bool { return x.state(2) == replica.StateDown })
	if got := x.readers(t); got != "replica-1" {
		t.Errorf("reads go to %q", got)
	}
	if err := x.Check(within(t, 5*time.Second)); err == nil || !strings.Contains(err.Error(), "replica-2") || strings.Contains(err.Error(), "replica-1") {
		t.Errorf("%v, want a reservation about replica-2", err)
	}
	if err := x.Stop(within(t, 5*time.Second)); err != nil {
		t.Errorf("a silent replica keeps Stop from its work: %v", err)
	}
}

func TestErrorOfTrafficHasTheServerPolledAtOnce(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.PollInterval, cfg.MaxLag = time.Hour, 2*time.Hour })
	seen := make(chan error, 100)
	x.ObserveWith(observerFunc(func(err error) { seen <- err }))
	for range 4 { // a connection to each
		_ = who(t.Context(), x.Replica())
	}
	if len(seen) != 0 {
		t.Error("success of a replica stands in for the component's check")
	}
	x.servers[1].RefuseNew()
	x.servers[1].Drop()
	eventually(t, "traffic has shown that the replica is down", func() bool {
		_ = who(t.Context(), x.Replica())
		return x.state(1) == replica.StateDown
	})
	if err := <-seen; err == nil {
		t.Error("the observer has not been told")
	}
	if got := x.readers(t); got != "replica-2" {
		t.Errorf("reads go to %q", got)
	}
	x.ObserveWith(nil)
}

type observerFunc func(error)

func (f observerFunc) Observe(err error) { f(err) }

func TestSuspectReplicaIsReadIfThereIsNothingElse(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) {
		cfg.Fallback, cfg.Replicas = replica.FallbackNone, cfg.Replicas[:1]
	})
	c, err := x.Replica().Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.servers[1].Drop() // one loss: the server is there
	if _, err = c.Exec(t.Context(), "who"); err == nil {
		t.Error("a dropped connection works")
	}
	c.Release()
	for range 10 {
		if got := who(t.Context(), x.Replica()); got == replica.ErrNoReplica.Error() {
			t.Error("no replica is left, though the only one answers")
		}
	}
	eventually(t, "it has been polled, and is read", func() bool { return x.Members()[1].InRotation && x.readers(t) == "replica-1" })
}

// The session on which the polls are taken ends in the middle of one: the server answers the next,
// so it is not down.
func TestPollWhoseSessionEndsInTheMiddleIsTakenAgain(t *testing.T) {
	x := newTrio(t, func(cfg *replica.PostgresConfig) { cfg.Replicas = cfg.Replicas[:1] })
	var cuts, polls atomic.Int64
	x.servers[1].AnswerMatching(regexp.MustCompile(`^select pg_is_in_recovery\(\)`), sqlpooltest.Answer{
		Columns: []string{"a", "b", "c", "d"}, Func: func([]any) ([][]any, error) {
			polls.Add(1)
			if cuts.Add(-1) >= 0 {
				x.servers[1].Drop()
			}
			return [][]any{{"t", "1", "0", "t"}}, nil
		},
	})
	if err := x.Check(t.Context()); err != nil { // before Start it polls at every server
		t.Fatal(err)
	}
	before := polls.Load()
	cuts.Store(1)
	if err := x.Check(t.Context()); err != nil || x.state(1) != replica.StateReady {
		t.Errorf("one session was lost: %v, and the replica is %s", err, x.state(1))
	}
	if got := polls.Load() - before; got != 2 {
		t.Errorf("the server was asked %d times, want once more than usual", got)
	}
	if got := x.readers(t); got != "replica-1" {
		t.Errorf("reads go to %q", got)
	}
	cuts.Store(2) // a new session is lost too: that is news about the server
	if err := x.Check(t.Context()); err == nil || x.state(1) != replica.StateDown {
		t.Errorf("every session is lost: %v, and the replica is %s", err, x.state(1))
	}
}

func TestCallersOwnDeadlineCastsNoDoubtOnAReplica(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.PollInterval, cfg.MaxLag = time.Hour, 2*time.Hour })
	for _, s := range x.servers[1:] {
		s.Slow(time.Second) // the polls are not
	}
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_ = who(ctx, x.Replica())
		cancel()
		if m := x.Members(); !m[1].InRotation || !m[2].InRotation {
			t.Fatalf("a slow query has cost a replica its reads: %+v", m)
		}
	}
}

func TestLostPrimaryFailsTheCheckAndReadsGoOn(t *testing.T) {
	x := startTrio(t, nil)
	x.servers[0].RefuseNew()
	x.servers[0].Drop()
	status, err := sqltest.Verdict(t, x.Check)
	if status != health.StatusFail || health.Classify(err).Kind != health.KindRefused || !strings.Contains(err.Error(), "orders/primary") {
		t.Errorf("%s: %v", status, err)
	}
	if got := x.readers(t); got != "replica-1 replica-2" {
		t.Errorf("reads go to %q", got)
	}
}

func TestPromotedReplicaIsReadOnlyWhileNoPrimaryAnswers(t *testing.T) {
	x := startTrio(t, nil)
	_ = who(t.Context(), x.Primary()) // a connection that will lead to a demoted server
	x.servers[1].Heal()               // it is a standby no more
	eventually(t, "the promotion is seen", func() bool { return x.state(1) == replica.StatePromoted })
	if got := x.readers(t); got != "replica-2" {
		t.Errorf("reads go to %q: a promoted replica has a past of its own", got)
	}
	status, err := sqltest.Verdict(t, x.Check)
	if status != health.StatusWarn || !strings.Contains(fmt.Sprint(err), "not a standby") {
		t.Errorf("%s: %v", status, err)
	}
	x.servers[0].Standby(0) // and the old primary has been demoted
	eventually(t, "the demotion is seen", func() bool { return x.state(0) == replica.StateDemoted })
	eventually(t, "the promoted one is read", func() bool { return x.state(1) == replica.StateReady })
	status, err = sqltest.Verdict(t, x.Check)
	if status != health.StatusFail || health.Classify(err).Kind != health.KindReadOnly {
		t.Errorf("%s: %v, want a failure: the primary takes no writes", status, err)
	}
	eventually(t, "the connection to the demoted primary is closed", func() bool {
		return x.Primary().Stats().Evicted[poolkeeper.EvictedFailover] == 1
	})
	dials := x.Primary().Stats().Dials
	_ = who(t.Context(), x.Primary())
	polls := len(x.servers[0].Queries()) // any later poll must not throw the new one away again
	before := x.Members()[0].Polled
	eventually(t, "it was polled again", func() bool { return x.Members()[0].Polled.After(before.Add(30 * time.Millisecond)) })
	_ = who(t.Context(), x.Primary())
	if n := x.Primary().Stats().Dials - dials; n != 1 || len(x.servers[0].Queries()) != polls+1 {
		t.Errorf("%d dials for two reads of a demoted primary, want 1", n)
	}
}

func TestServerThatTalksNonsenseIsDown(t *testing.T) {
	pollQuery := regexp.MustCompile(`^select pg_is_in_recovery\(\)`)
	for name, a := range map[string]sqlpooltest.Answer{
		"no row":      {Columns: []string{"a"}},
		"no column":   {},
		"no position": {Columns: []string{"a", "b", "c", "d"}, Rows: [][]any{{"t", "x", "0", "t"}}},
		"no age":      {Columns: []string{"a", "b", "c", "d"}, Rows: [][]any{{"t", "0", "x", "t"}}},
		"an error":    {Err: errors.New("function does not exist")},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTrio(t, nil)
			x.servers[1].AnswerMatching(pollQuery, a)
			if err := x.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if m := x.Members()[1]; m.State != replica.StateDown || m.Err == nil || m.HasLag {
				t.Errorf("%+v", m)
			}
			if got := x.readers(t); got != "replica-2" {
				t.Errorf("reads go to %q", got)
			}
		})
	}
}

func TestLagThatIsNotKnownIsTooMuch(t *testing.T) {
	x := newTrio(t, nil)
	x.servers[1].AnswerMatching(regexp.MustCompile(`^select pg_is_in_recovery\(\)`), sqlpooltest.Answer{
		Columns: []string{"a", "b", "c", "d"}, Rows: [][]any{{"t", "0", "-1", "f"}}, // it has replayed nothing since it started
	})
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := x.Members()[1]; m.State != replica.StateLagging || m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "not known") {
		t.Errorf("%+v", m)
	}
}

func TestReadOnlyTransactionRefusesWritesOnThePrimaryToo(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.Replicas = nil })
	tx, err := x.BeginReadOnly(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec(t.Context(), "insert"); sqltest.State(err) != "25006" {
		t.Errorf("%v, want 25006", err)
	}
	if err = tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err = x.Primary().Pool().Exec(t.Context(), "insert"); err != nil {
		t.Error(err)
	}
}

func TestWriteOnAReplicaDoesNotCostItsConnections(t *testing.T) {
	x := startTrio(t, nil)
	standby := x.Replicas()[0]
	if _, err := standby.Pool().Exec(t.Context(), "insert"); sqltest.State(err) != "25006" {
		t.Errorf("%v, want 25006", err)
	}
	dials := standby.Stats().Dials
	if got := who(t.Context(), standby); got != "replica-1" || standby.Stats().Dials != dials {
		t.Errorf("%q after %d dials more", got, standby.Stats().Dials-dials)
	}
}

// INV-13.
func TestFailedStartNamesThePoolAndLeavesNothing(t *testing.T) {
	x := newTrio(t, func(cfg *replica.PostgresConfig) {
		cfg.Replicas[1].Start = poolkeeper.StartFailFast
		cfg.Primary.MinIdle = 2
	})
	x.SetName("shop")
	x.servers[2].RefuseNew()
	err := x.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), `start "shop/replica-2"`) || strings.Contains(err.Error(), "another pool") {
		t.Errorf("%v, want the one pool that failed", err)
	}
	eventually(t, "no connection is left", func() bool { return x.servers[0].Connections()+x.servers[1].Connections() == 0 })
	if err := x.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("a second Start: %v, want ErrClosed", err)
	}
	if err := x.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Check: %v, want ErrClosed", err)
	}
}

func TestReplicaThatIsAwayAtStartIsReadWhenItComes(t *testing.T) {
	x := newTrio(t, nil)
	x.servers[1].RefuseNew()
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.Start(t.Context()); err == nil {
		t.Error("it starts twice")
	}
	if got := x.readers(t); got != "replica-2" {
		t.Errorf("reads go to %q", got)
	}
	x.servers[1].Heal()
	x.servers[1].Standby(0)
	eventually(t, "it is back", func() bool { return x.readers(t) == "replica-1 replica-2" })
}

// INV-8, INV-9.
func TestDrainAndStopCoverEveryPoolAndNameTheHolder(t *testing.T) {
	x := startTrio(t, nil)
	c, err := x.Replicas()[1].Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tooShort, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err = x.Drain(tooShort); err == nil || !strings.Contains(err.Error(), `drain "orders/replica-2"`) || strings.Contains(err.Error(), "replica-1") {
		t.Errorf("%v, want the pool whose connection is held", err)
	}
	for _, p := range append(x.Replicas(), x.Primary()) {
		if _, err = p.Pool().Exec(t.Context(), "who"); !errors.Is(err, poolkeeper.ErrDraining) {
			t.Errorf("%v, want ErrDraining", err)
		}
	}
	if err = x.Start(t.Context()); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("Start while draining: %v", err)
	}
	if n := len(x.Holders()); n != 1 || x.Stats().InUse != 1 {
		t.Errorf("%d holders, %d in use; want one", n, x.Stats().InUse)
	}
	err = x.Stop(tooShort)
	if held, ok := errors.AsType[*poolkeeper.HeldError](err); !ok || held.Pool != "orders/replica-2" || held.Cut != 1 {
		t.Errorf("%v, want the pool whose connection was cut", err)
	}
	c.Release()
	eventually(t, "no connection is left", func() bool {
		return x.servers[0].Connections()+x.servers[1].Connections()+x.servers[2].Connections() == 0
	})
}

func TestStopWithoutStartAndTwiceIsClean(t *testing.T) {
	x := newTrio(t, func(cfg *replica.PostgresConfig) { cfg.Fallback = replica.FallbackNone })
	if err := x.Check(t.Context()); err != nil {
		t.Errorf("before Start: %v", err)
	}
	for range 2 {
		if err := x.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := x.Abort(); err != nil {
		t.Error(err)
	}
}

func TestStatsSettingsAndLimitsCoverEveryPool(t *testing.T) {
	x := startTrio(t, nil)
	for range 4 {
		_ = who(t.Context(), x.Replica())
	}
	_ = who(t.Context(), x.Primary())
	s := x.Stats()
	if s.Max != 2+3+4 || s.Use.Count != 5 || s.Dials != 3 || s.Use.Buckets[len(s.Use.Buckets)-1].Count != 5 {
		t.Errorf("%+v", s)
	}
	text := fmt.Sprint(x.Settings())
	for _, want := range []string{"kind=replicated", "max_lag=10s", "fallback=FallbackPrimary", "primary=[", "replica-2=[", "max_open=4"} {
		if !strings.Contains(text, want) {
			t.Errorf("settings lack %s: %s", want, text)
		}
	}
	if strings.Contains(text, "postgres://") {
		t.Error("settings hold a URL")
	}
	limits, err := x.Limits(t.Context())
	if err != nil || len(limits) != 3 || limits["replica-2"].PerInstance != 5 || limits["primary"].MaxConnections != 100 {
		t.Errorf("%+v, %v", limits, err)
	}
	x.servers[1].RefuseNew()
	x.servers[1].Drop()
	if limits, err = x.Limits(t.Context()); err == nil || !strings.Contains(err.Error(), "orders/replica-1") || len(limits) != 2 {
		t.Errorf("%v, %v", limits, err)
	}
}

func TestReloadChangesAllPoolsOrNone(t *testing.T) {
	x := startTrio(t, nil)
	next := x.cfg
	next.Replicas = append([]sqlpool.PostgresConfig(nil), x.cfg.Replicas...)
	next.Primary.MaxOpen, next.Replicas[0].MaxOpen = 1, 2
	next.MaxLag, next.Fallback = 5*time.Second, replica.FallbackNone
	bad := next
	bad.Replicas = append([]sqlpool.PostgresConfig(nil), next.Replicas...)
	bad.Replicas[1].MaxOpenCeiling = 50 // the pool refuses it, after the two before have changed
	if _, err := x.Plan(bad); err == nil || !strings.Contains(err.Error(), "MaxOpenCeiling") {
		t.Errorf("%v, want replica-2's refusal", err)
	}
	changes, err := x.Plan(next)
	var fields []string
	for _, c := range changes {
		fields = append(fields, c.Field)
	}
	for _, f := range []string{"MaxLag", "Fallback", "primary.MaxOpen", "replica-1.MaxOpen"} {
		if err != nil || !slices.Contains(fields, f) {
			t.Errorf("Plan tells %q, %v; %s is missing", fields, err, f)
		}
	}
	if err := x.Reload(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "orders/replica-2") {
		t.Errorf("%v, want replica-2's refusal", err)
	}
	if got := x.Primary().Stats().Max; got != 2 {
		t.Errorf("the primary's MaxOpen is %d after a failed reload, want the old 2", got)
	}
	if err := x.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if a, b := x.Primary().Stats().Max, x.Replicas()[0].Stats().Max; a != 1 || b != 2 {
		t.Errorf("MaxOpen is %d and %d, want 1 and 2", a, b)
	}
	for _, s := range x.servers[1:] {
		s.Standby(7 * time.Second)
	}
	eventually(t, "the new MaxLag and Fallback hold", func() bool {
		_, err := x.Replica().Pool().Exec(t.Context(), "who")
		return errors.Is(err, replica.ErrNoReplica)
	})
	for name, change := range map[string]func(*replica.PostgresConfig){
		"number of Replicas": func(c *replica.PostgresConfig) { c.Replicas = c.Replicas[:1] },
		"name of a replica":  func(c *replica.PostgresConfig) { c.Replicas[0].Name = "other" },
		"Name cannot":        func(c *replica.PostgresConfig) { c.Name = "other" },
		"MaxLag":             func(c *replica.PostgresConfig) { c.MaxLag = -5 },
	} {
		c := next
		c.Replicas = append([]sqlpool.PostgresConfig(nil), next.Replicas...)
		change(&c)
		if err := x.Reload(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := x.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := x.Reload(t.Context(), next); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestPauseHoldsUpEveryPoolOrNone(t *testing.T) {
	x := startTrio(t, nil)
	if err := x.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() { done <- who(t.Context(), x.Replica()) }()
	eventually(t, "the caller waits", func() bool { return x.Stats().Waiting == 1 })
	x.Resume()
	if got := <-done; !strings.HasPrefix(got, "replica") {
		t.Error(got)
	}
	tx, err := x.Primary().Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tooShort, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err = x.Pause(tooShort); err == nil || !strings.Contains(err.Error(), "orders/primary") {
		t.Errorf("%v, want the pool that could not be paused", err)
	}
	if got := x.readers(t); got != "replica-1 replica-2" {
		t.Errorf("after a failed pause: %q", got)
	}
	if err = tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	x.Reset()
	if got := who(t.Context(), x.Primary()); got != "primary" {
		t.Error(got)
	}
}

func TestConfigReportsEveryFaultAtOnce(t *testing.T) {
	_, err := replica.NewPostgres(replica.PostgresConfig{
		Primary:      sqlpool.PostgresConfig{URL: "mysql://db/orders", MaxOpen: -1, MinIdle: -1},
		Replicas:     []sqlpool.PostgresConfig{{Name: "primary", KeepAlive: -5}, {URL: "postgres://host:bad:port/"}},
		PollInterval: -1, PollTimeout: -1, Fallback: 7, MaxLag: -2,
	})
	for _, want := range []string{
		"primary: replica: URL is not PostgreSQL's", "primary: sqlpool: MaxOpen is -1", "primary: sqlpool: MinIdle is -1",
		`replica 1: the name "primary" is taken`, "primary: sqlpool: KeepAlive is -5ns", "replica-2: ",
		"PollInterval is -1ns", "PollTimeout is -1ns", "Fallback is Fallback(7)", "MaxLag is -2ns",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	ok := replica.PostgresConfig{}
	if err = ok.Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for _, bad := range []replica.PostgresConfig{
		{MaxLag: time.Millisecond}, {Fallback: replica.FallbackNone}, {Primary: sqlpool.PostgresConfig{MinIdle: 100}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestMaxLagOffReadsFromWhateverAnswers(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.MaxLag = poolkeeper.Off })
	for _, s := range x.servers[1:] {
		s.Standby(time.Hour)
	}
	x.servers[2].RefuseNew()
	x.servers[2].Drop()
	eventually(t, "the one that is down is seen", func() bool { return x.state(2) == replica.StateDown })
	if got := x.readers(t); got != "replica-1" {
		t.Errorf("reads go to %q", got)
	}
}

func TestRegistryRunsASetAsOneComponent(t *testing.T) {
	x := newTrio(t, nil)
	reg := lifecycle.New(lifecycle.Config{Logger: quiet()})
	reg.Add("shop", x.Postgres, lifecycle.WithHealthCheck(health.Check{Interval: 20 * time.Millisecond}))
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	check := func() health.CheckReport {
		for _, c := range reg.Health().Report().Checks {
			if c.Name == "shop" {
				return c
			}
		}
		return health.CheckReport{}
	}
	eventually(t, "the check passes", func() bool { return check().Status == health.StatusPass })
	x.servers[2].RefuseNew()
	x.servers[2].Drop()
	eventually(t, "the check warns, under the name the registry gave", func() bool {
		c := check()
		return c.Status == health.StatusWarn && strings.Contains(fmt.Sprint(c.Err), "shop/replica-2")
	})
	if err := reg.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	eventually(t, "no connection is left", func() bool { return x.servers[0].Connections()+x.servers[1].Connections() == 0 })
}

func TestStopDuringStartEndsBoth(t *testing.T) {
	x := newTrio(t, func(cfg *replica.PostgresConfig) { cfg.Replicas[0].Start = poolkeeper.StartWaitForServer })
	x.servers[1].RefuseNew()
	started := make(chan error)
	go func() { started <- x.Start(t.Context()) }()
	eventually(t, "the others are up", func() bool { return x.servers[0].Connections() == 1 && x.servers[2].Connections() == 1 })
	if err := x.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	if err := <-started; err == nil {
		t.Error("Start says that it has succeeded")
	}
	eventually(t, "no connection is left", func() bool { return x.servers[0].Connections()+x.servers[2].Connections() == 0 })
}

func TestMemberThatIsDownFailsItsOwnCallersOnly(t *testing.T) {
	x := startTrio(t, func(cfg *replica.PostgresConfig) { cfg.Primary.FailFastAfter = 50 * time.Millisecond })
	x.servers[0].Refuse()
	x.servers[0].Drop()
	eventually(t, "writes fail at once", func() bool {
		_, err := x.Primary().Pool().Exec(t.Context(), "insert")
		down, ok := errors.AsType[*poolkeeper.DownError](err)
		return ok && down.Pool == "orders/primary"
	})
	if got := x.readers(t); got != "replica-1 replica-2" {
		t.Errorf("%s answer reads", got)
	}
	x.servers[0].Heal()
	eventually(t, "writes succeed again", func() bool {
		_, err := x.Primary().Pool().Exec(t.Context(), "insert")
		return err == nil
	})
	if err := x.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func BenchmarkReplica(b *testing.B) {
	x := newTrio(b, nil)
	if err := x.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = x.Replica()
	}
}
