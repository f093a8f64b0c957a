package measuretest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Secret is in every text of the components of Everything that no metric may show.
const Secret = "s3cret"

// Hostile is a name that has to be escaped wherever it is shown.
const Hostile = `he"llo\ <b>{x="y"}</b> 世界`

// Component is one whose Start takes 5 ms.
type Component struct{}

// Start takes 5 ms.
func (Component) Start(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop does nothing.
func (Component) Stop(context.Context) error { return nil }

// Pool is a component that is a pool of these numbers.
type Pool struct {
	Component

	Numbers func() poolkeeper.Stats
	Dates   []poolkeeper.Expiry
}

// Stats returns the numbers.
func (p *Pool) Stats() poolkeeper.Stats { return p.Numbers() }

// Expiries returns the dates.
func (p *Pool) Expiries() []poolkeeper.Expiry { return p.Dates }

// Server is a component that is a server of these numbers.
type Server struct {
	Component

	Numbers poolkeeper.ServerStats
}

// Stats returns the numbers.
func (s *Server) Stats() poolkeeper.ServerStats { return s.Numbers }

// Hub is a component that keeps streams.
type Hub struct {
	Component

	Numbers poolkeeper.StreamStats
}

// StreamStats returns the numbers.
func (h *Hub) StreamStats() poolkeeper.StreamStats { return h.Numbers }

// Panicking is a pool whose numbers cannot be read.
type Panicking struct{ Component }

// Stats panics.
func (Panicking) Stats() poolkeeper.Stats { panic(Secret) }

type checked struct {
	Component

	err error
}

// Check returns err.
func (c checked) Check(context.Context) error { return c.err }

// New returns an empty registry that logs nothing.
func New() *lifecycle.Registry {
	quiet := slog.New(slog.DiscardHandler)
	return lifecycle.New(lifecycle.Config{Logger: quiet, Health: health.Config{Logger: quiet, Jitter: poolkeeper.NoJitter}})
}

// Start starts the registry, and shuts it down at the end of the test.
func Start(tb testing.TB, reg *lifecycle.Registry) {
	tb.Helper()
	if err := reg.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
		defer cancel()
		if err := reg.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
}

// Everything returns a registry that is up, of which every metric has a sample. It is for a bubble of
// testing/synctest: its checks have run for 61 s of it.
func Everything(tb testing.TB) *lifecycle.Registry {
	tb.Helper()
	reg := New()
	reg.Add("orders", &Pool{Numbers: func() poolkeeper.Stats { return full(3) }, Dates: dates()})
	reg.Add("cache", &Pool{Numbers: func() poolkeeper.Stats {
		s := full(1)
		s.Max, s.Use, s.Members, s.Fleet = 0, poolkeeper.Histogram{}, nil, poolkeeper.FleetStats{}
		s.DownSince, s.LastDialError, s.LastDialErrorTime = time.Time{}, nil, time.Time{}
		return s
	}})
	reg.Add("broken", Panicking{})
	reg.Add(Hostile, &Pool{Numbers: func() poolkeeper.Stats { return poolkeeper.Stats{Max: 1} }})
	reg.Add("api", &Server{Numbers: poolkeeper.ServerStats{
		InFlight: 7, Streams: 2, Connections: 12, Hijacked: 1, Requests: 4711, Refused: 3,
	}}, lifecycle.WithDependencies("orders"))
	reg.Add("feed", &Hub{Numbers: poolkeeper.StreamStats{
		WebSocket: 1000, SSE: 500, Buffered: 41, Topics: map[string]int{Secret: 7}, Opened: 4000, Sent: 90000, Dropped: 12, Replayed: 30,
		Ended: map[string]uint64{"peer": 2000, "slow": 12}, Refused: map[string]uint64{"key": 5, "max": 0},
	}})
	reg.Add("good", checked{})
	reg.Add("warned", checked{err: health.Degraded(errors.New(Secret))})
	reg.Add("failing", checked{err: errors.New(Secret)})
	if _, err := reg.Health().Heartbeat("loop", time.Hour); err != nil {
		tb.Fatal(err)
	}
	Start(tb, reg)
	time.Sleep(61 * time.Second) //nolint:forbidigo // of a bubble
	return reg
}

// full returns numbers that all differ, and grow with n.
func full(n int) poolkeeper.Stats {
	now, u := time.Now(), uint64(n)
	bad := fmt.Errorf("dial postgres://u:%s@db: refused", Secret)
	s := poolkeeper.Stats{
		Max: 20 * n, MinIdle: n + 1, Open: 6 * n, InUse: 4 * n, Idle: 2 * n, Dialing: n, Waiting: 5 * n,
		Reused: 1000 * uint64(n-1), Unread: 7 * uint64(n-1), OldestHold: time.Duration(n) * 41 * time.Second, Paused: n%2 == 0, DownSince: now.Add(-time.Minute),
		Generation: u, SweepLate: time.Duration(n) * time.Second,
		WaitCount: 8 * u, WaitDuration: time.Duration(n) * 1500 * time.Millisecond,
		Dials: 9 * u, DialErrors: 10 * u, Acquired: 1000 * u, AcquireTimeouts: 11 * u, Refused: 12 * u,
		Leaks: 13 * u, Reclaimed: 14 * u, LastDialError: bad, LastDialErrorTime: now.Add(-2 * time.Minute),
		Evicted: map[string]uint64{
			poolkeeper.EvictedIdle: 15 * u, poolkeeper.EvictedFailover: 16 * u, "moon phase " + Secret: 17 * u,
		},
		Wait: histogram(1000*u, 2*u), Use: histogram(999*u, 3*u), Dial: histogram(9*u, 4*u),
		Fleet: poolkeeper.FleetStats{
			Asked: now.Add(-time.Hour), Demand: 90 * n, Limit: 97, OnServer: 31 * n, Warnings: []string{Secret},
		},
	}
	s.Members = []poolkeeper.MemberStats{
		{Name: "replica-1", State: "lagging", Lag: 7 * time.Second, HasLag: true, Stats: poolkeeper.Stats{Open: n, DownSince: now}},
		{Name: "replica-2", State: "isolated", Score: 60, HasScore: true, Isolated: true, Why: Secret, NextTrial: now.Add(time.Minute)},
		{Name: "primary", Primary: true, State: "ready", InRotation: true, Stats: poolkeeper.Stats{Open: 5 * n, InUse: 4 * n}},
	}
	return s
}

// histogram returns one with the bounds of the pools.
func histogram(count, step uint64) poolkeeper.Histogram {
	h := poolkeeper.Histogram{Count: count, Sum: float64(count) * 0.0005}
	for i, bound := range []float64{0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} {
		h.Buckets = append(h.Buckets, poolkeeper.Bucket{UpperBound: bound, Count: min(step*uint64(i), count)})
	}
	return h
}

func dates() []poolkeeper.Expiry {
	at := func(day int) time.Time { return time.Date(2030, time.January, day, 0, 0, 0, 0, time.UTC) }
	return []poolkeeper.Expiry{
		{Kind: poolkeeper.ExpiryClientCertificate, Subject: "orders", NotAfter: at(1)},
		{Kind: poolkeeper.ExpiryCA, Subject: "root", NotAfter: at(3)},
		{Kind: poolkeeper.ExpiryCA, Subject: "root", NotAfter: at(2)}, // its successor has the same name
		{Kind: poolkeeper.ExpiryCredentials, NotAfter: at(4)},
		{Kind: poolkeeper.ExpiryServerCertificate, Subject: "db"}, // not known
	}
}

// Pools returns a registry, not started, of n pools with all numbers of one server.
func Pools(n int) *lifecycle.Registry {
	reg := New()
	for i := range n {
		reg.Add(fmt.Sprintf("pool-%03d", i), &Pool{Numbers: func() poolkeeper.Stats {
			s := full(3)
			s.Members = nil
			return s
		}})
	}
	return reg
}
