package replica_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

func TestStatsTellEachServerBesideTheirSums(t *testing.T) {
	x := startTrio(t, nil)
	for range 4 {
		_ = who(t.Context(), x.Replica())
	}
	x.servers[1].Standby(11 * time.Second)
	eventually(t, "the lag is seen", func() bool { return x.state(1) == replica.StateLagging })
	s := x.Stats()
	if len(s.Members) != 3 {
		t.Fatalf("%d members", len(s.Members))
	}
	for i, want := range []poolkeeper.MemberStats{
		{Name: "primary", Primary: true, State: "ready", InRotation: true},
		{Name: "replica-1", State: "lagging", Lag: 11 * time.Second, HasLag: true},
		{Name: "replica-2", State: "ready", InRotation: true, HasLag: true},
	} {
		got := s.Members[i]
		if got.Name != want.Name || got.Primary != want.Primary || got.State != want.State ||
			got.InRotation != want.InRotation || got.Lag != want.Lag || got.HasLag != want.HasLag || len(got.Stats.Evicted) != 6 {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	var sum poolkeeper.Stats
	for _, m := range s.Members {
		sum.Max += m.Stats.Max
		sum.Open += m.Stats.Open
		sum.Acquired += m.Stats.Acquired
		sum.Use.Count += m.Stats.Use.Buckets[len(m.Stats.Use.Buckets)-1].Count
	}
	if s.Max != sum.Max || s.Open != sum.Open || s.Acquired != sum.Acquired || s.Acquired != 4 ||
		s.Use.Buckets[len(s.Use.Buckets)-1].Count != sum.Use.Count {
		t.Errorf("the sums are %+v, those of the members %+v", s, sum)
	}
	// The servers grant 97 each; replica-2 may open the most.
	if f := s.Fleet; f.Asked.IsZero() || f.Limit != 97 || f.Demand != s.Members[2].Stats.Fleet.Demand {
		t.Errorf("%+v, want that of the server with the least room: %+v", f, s.Members[2].Stats.Fleet)
	}
}

func TestALostReplicaIsNoOutageOfThePool(t *testing.T) {
	x := startTrio(t, func(c *replica.PostgresConfig) {
		c.Primary.FailFastAfter, c.Replicas[0].FailFastAfter = 50*time.Millisecond, 50*time.Millisecond
	})
	x.servers[1].Refuse()
	eventually(t, "the replica is known to be down", func() bool {
		_ = who(t.Context(), x.Replicas()[0])
		return !x.Stats().Members[1].Stats.DownSince.IsZero()
	})
	if s := x.Stats(); !s.DownSince.IsZero() || !errors.Is(s.LastDialError, s.Members[1].Stats.LastDialError) || s.LastDialError == nil {
		t.Errorf("down since %v, last dial error %v", s.DownSince, s.LastDialError)
	}
	x.servers[0].Refuse()
	eventually(t, "the primary is known to be down", func() bool {
		_ = who(t.Context(), x.Primary())
		return !x.Stats().DownSince.IsZero()
	})
}

func TestPausedIsSaidWhileAnyPoolIs(t *testing.T) {
	x := startTrio(t, nil)
	if err := x.Replicas()[1].Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := x.Stats(); !s.Paused || s.Members[0].Stats.Paused || !s.Members[2].Stats.Paused {
		t.Errorf("%v, and of the members %v, %v", s.Paused, s.Members[0].Stats.Paused, s.Members[2].Stats.Paused)
	}
	x.Resume()
	if x.Stats().Paused {
		t.Error("paused after Resume")
	}
}

var _ lifecycle.ExpiryProvider = (*replica.Postgres)(nil)

// The servers of a set mostly share an authority and the client's certificate.
func TestExpiriesAreThoseOfAllServersOnce(t *testing.T) {
	ca := testcerts.New(t)
	shared, own := ca.Pair(t, "client"), ca.Pair(t, "reader")
	config := func(pairs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ca.Pool(), Certificates: pairs, MinVersion: tls.VersionTLS12}
	}
	x := newTrio(t, func(c *replica.PostgresConfig) {
		c.Primary.TLS, c.Replicas[0].TLS, c.Replicas[1].TLS = config(shared), config(shared), config(shared, own)
	})
	var got []string
	for _, e := range x.Expiries() {
		got = append(got, e.Subject)
	}
	slices.Sort(got)
	if want := []string{"client", "reader"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func BenchmarkStats(b *testing.B) {
	x := newTrio(b, nil)
	if err := x.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(x.Stats().Members) != 3 {
			b.Fatal("members are missing")
		}
	}
}
