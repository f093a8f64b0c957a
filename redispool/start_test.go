package redispool_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestStartFailsFastByDefault(t *testing.T) { // INV-13
	p := newPool(t, redispool.Config{URL: "redis://" + freeAddr(t), Name: "cache"})
	err := p.Start(within(t, patience))
	if err == nil || !strings.Contains(err.Error(), `start "cache"`) || health.Classify(err).Kind != health.KindRefused {
		t.Fatalf("Start = %v", err)
	}
	if s := p.Stats(); s.Open != 0 {
		t.Errorf("%d open after a failed Start", s.Open)
	}
	// It may be tried again.
	if err := p.Start(within(t, patience)); err == nil || strings.Contains(err.Error(), "already started") {
		t.Errorf("a second Start = %v", err)
	}
}

func TestStartDegradedBecomesReadyLater(t *testing.T) {
	m := mini(t)
	addr := m.Addr()
	m.Close()
	var out testkit.Log
	p := started(t, redispool.Config{
		URL: "redis://" + addr, Start: poolkeeper.StartDegraded, MinIdle: 2, Logger: out.Logger(),
		EvictionInterval: 10 * time.Millisecond,
	})
	if !strings.Contains(out.String(), "starting without the server") {
		t.Errorf("not logged:\n%s", out.String())
	}
	if err := p.Check(within(t, patience)); err == nil {
		t.Error("Check passes without a server")
	}
	if err := m.StartAddr(addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Check passes and MinIdle is filled", func() bool {
		return p.Check(within(t, patience)) == nil && p.Stats().Idle == 2
	})
}

// deaf is a dialer behind which no server is; it counts the attempts in virtual time.
func deaf(attempts *[]time.Time, up func() bool) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		*attempts = append(*attempts, time.Now())
		if up() {
			return newFakeServer(), nil
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused in virtual time")}
	}
}

func TestWaitForServerBacksOff(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		var attempts []time.Time
		upAt := time.Now().Add(3 * time.Minute)
		p := newPool(t, redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{"x:1"}, Dialer: deaf(&attempts, func() bool { return !time.Now().Before(upAt) })},
			Start:   poolkeeper.StartWaitForServer, KeepAlive: poolkeeper.Off,
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(attempts) < 8 || len(attempts) > 14 {
			t.Errorf("%d attempts in three minutes", len(attempts))
		}
		want := time.Second
		for i := 1; i < len(attempts) && attempts[i-1].Before(upAt); i++ { // after that, Start asks for the server's limits
			gap := attempts[i].Sub(attempts[i-1])
			if gap < want*3/4 || gap > want {
				t.Errorf("attempt %d came %s after the one before, want at most a quarter less than %s", i+1, gap, want)
			}
			want = min(2*want, 30*time.Second)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitForServerEndsWithItsContext(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		var attempts []time.Time
		p := newPool(t, redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{"x:1"}, Dialer: deaf(&attempts, func() bool { return false })},
			Start:   poolkeeper.StartWaitForServer,
		})
		cause := errors.New("the deadline of start-up")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, cause)
		defer cancel()
		err := p.Start(ctx)
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "refused in virtual time") {
			t.Errorf("Start = %v; want its context's cause and the last attempt's error", err)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
