package sqlpool_test

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
)

// What a primary and a replica of it must do as a component, whatever kind of servers they are.

// realPair is a real primary and a real replica of it under one component, named orders.
type realPair interface {
	Members() []sqlpool.Member
	Check(ctx context.Context) error
	Limits(ctx context.Context) (map[string]sqlpool.Limits, error)
	becomes(t *testing.T, want sqlpool.MemberState) // waits until the replica has that state, and reads go where that implies
}

// awaitState waits until the replica has a state, and wants it to be read if it is ready, and only
// then.
func awaitState(t *testing.T, p realPair, want sqlpool.MemberState) {
	t.Helper()
	var m sqlpool.Member
	eventually(t, "the replica is "+string(want), func() bool {
		m = p.Members()[1]
		return m.State == want
	})
	if ready := want == sqlpool.MemberReady; m.Reads != ready {
		t.Errorf("the replica is %s; is read: %v", want, m.Reads)
	}
}

// hasNoLagWhileIdle looks at the replica for twice MaxLag, with reads going on. One that does not
// answer in time, on a busy machine, is not taken for one that lags.
func hasNoLagWhileIdle(t *testing.T, p realPair, read func()) {
	t.Helper()
	for since := time.Now(); time.Since(since) < 2*time.Second; {
		if m := p.Members()[1]; m.State == sqlpool.MemberLagging {
			t.Fatalf("%+v", m)
		}
		read()
	}
	awaitState(t, p, sqlpool.MemberReady)
}

// isLeftAloneWhileItIsAway freezes and kills the replica, which comes back each time.
func isLeftAloneWhileItIsAway(t *testing.T, p realPair, replica *testserver.Server) {
	t.Helper()
	p.becomes(t, sqlpool.MemberReady)

	replica.Freeze(t)
	p.becomes(t, sqlpool.MemberDown)
	if status, err := verdict(t, p.Check); status != health.StatusWarn {
		t.Errorf("%s: %v, want a warning", status, err)
	} else {
		namesJust(t, err, 1)
	}
	limits, err := p.Limits(t.Context()) // until LookTimeout
	namesJust(t, err, 1)
	if _, there := limits["replica-1"]; there || limits["primary"].MaxConnections == 0 {
		t.Errorf("%+v, want the primary's limits alone", limits)
	}
	replica.Thaw(t)
	p.becomes(t, sqlpool.MemberReady)

	replica.Kill(t)
	p.becomes(t, sqlpool.MemberDown)
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "orders/replica-1") {
		t.Errorf("%v, want a reservation about the replica", err)
	}
	replica.Restart(t)
	p.becomes(t, sqlpool.MemberReady)
}

// costsTheReadsInFlight kills the replica under reads: hardly more than those in flight fail, and
// none once the loss is seen.
func costsTheReadsInFlight(t *testing.T, p realPair, replica *testserver.Server, read func(ctx context.Context) error) {
	t.Helper()
	p.becomes(t, sqlpool.MemberReady)
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
	replica.Kill(t)
	eventually(t, "the loss is seen", func() bool { return p.Members()[1].State == sqlpool.MemberDown })
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
