package replica_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// What a primary and a replica of it must do as a component, whatever kind of servers they are.

// realPair is a real primary and a real replica of it under one component, named orders.
type realPair interface {
	Members() []replica.Member
	Check(ctx context.Context) error
	Limits(ctx context.Context) (map[string]sqlpool.Limits, error)
	becomes(t *testing.T, want replica.State) // waits until the replica has that state, and reads go where that implies
}

// awaitState waits until the replica has a state, and wants it to be read if it is ready, and only
// then.
func awaitState(t *testing.T, p realPair, want replica.State) {
	t.Helper()
	var m replica.Member
	eventually(t, "the replica is "+string(want), func() bool {
		m = p.Members()[1]
		return m.State == want
	})
	if ready := want == replica.StateReady; m.InRotation != ready {
		t.Errorf("the replica is %s; is read: %v", want, m.InRotation)
	}
}

// hasNoLagWhileIdle watches the replica for twice MaxLag, with reads going on. One that does not
// answer in time, on a busy machine, is not taken for one that lags.
func hasNoLagWhileIdle(t *testing.T, p realPair, read func()) {
	t.Helper()
	for since := time.Now(); time.Since(since) < 2*time.Second; {
		if m := p.Members()[1]; m.State == replica.StateLagging {
			t.Fatalf("%+v", m)
		}
		read()
	}
	awaitState(t, p, replica.StateReady)
}

// isLeftAloneWhileItIsAway freezes and kills the replica, which comes back each time.
func isLeftAloneWhileItIsAway(t *testing.T, p realPair, srv *testserver.Server) {
	t.Helper()
	p.becomes(t, replica.StateReady)

	srv.Freeze(t)
	p.becomes(t, replica.StateDown)
	if status, err := sqltest.Verdict(t, p.Check); status != health.StatusWarn {
		t.Errorf("%s: %v, want a warning", status, err)
	} else {
		namesJust(t, err, 1)
	}
	limits, err := p.Limits(t.Context()) // until PollTimeout
	namesJust(t, err, 1)
	if _, there := limits["replica-1"]; there || limits["primary"].MaxConnections == 0 {
		t.Errorf("%+v, want the primary's limits alone", limits)
	}
	srv.Thaw(t)
	p.becomes(t, replica.StateReady)

	srv.Kill(t)
	p.becomes(t, replica.StateDown)
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "orders/replica-1") {
		t.Errorf("%v, want a reservation about the replica", err)
	}
	srv.Restart(t)
	p.becomes(t, replica.StateReady)
}

// costsTheReadsInFlight kills the replica under reads: hardly more than those in flight fail, and
// none once the loss is seen.
func costsTheReadsInFlight(t *testing.T, p realPair, srv *testserver.Server, read func(ctx context.Context) error) {
	t.Helper()
	p.becomes(t, replica.StateReady)
	const workers = 8
	ctx, cancel := context.WithCancel(within(t, testkit.Patience)) // no context ends: a failure means a lost server
	defer cancel()
	var done, failed, late atomic.Int64
	var seen atomic.Bool
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				wasSeen := seen.Load()
				switch err := read(ctx); {
				case err == nil:
					done.Add(1)
				case ctx.Err() == nil && wasSeen:
					late.Add(1)
				case ctx.Err() == nil:
					failed.Add(1)
				}
			}
		})
	}
	eventually(t, "the workers are at work", func() bool { return done.Load() > 200 })
	srv.Kill(t)
	eventually(t, "the loss is seen", func() bool { return p.Members()[1].State == replica.StateDown })
	seen.Store(true)
	before := done.Load()
	eventually(t, "reads go on", func() bool { return done.Load() > before+200 })
	cancel()
	all.Wait()
	if n := failed.Load(); n > 2*workers {
		t.Errorf("%d reads failed; want hardly more than those in flight, %d", n, workers)
	}
	if n := late.Load(); n > 0 {
		t.Errorf("%d reads failed that began after the loss was seen", n)
	}
}
