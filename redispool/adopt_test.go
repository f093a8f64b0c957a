package redispool_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

var (
	_ lifecycle.Component        = (*redispool.Adopted)(nil)
	_ lifecycle.Drainer          = (*redispool.Adopted)(nil)
	_ lifecycle.Aborter          = (*redispool.Adopted)(nil)
	_ lifecycle.Checker          = (*redispool.Adopted)(nil)
	_ lifecycle.StatsProvider    = (*redispool.Adopted)(nil)
	_ lifecycle.SettingsProvider = (*redispool.Adopted)(nil)
	_ lifecycle.NameSetter       = (*redispool.Adopted)(nil)
)

// foreign is a client that a test has made itself.
func foreign(t *testing.T, o *redis.Options, cfg redispool.AdoptConfig) (*redis.Client, *redispool.Adopted) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	a, err := redispool.Adopt(c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, a
}

func TestAdoptedClientIsCheckedDrainedAndClosed(t *testing.T) {
	m := mini(t)
	c, a := foreign(t, &redis.Options{Addr: m.Addr(), PoolSize: 3}, redispool.AdoptConfig{Name: "legacy", CheckCommand: "GET health"})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := a.Stats(); st.Max != 3 || st.Open != 1 || st.InUse != 0 {
		t.Errorf("Stats = %+v", st)
	}
	conn := c.Conn()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { _ = conn.Close() })
	if err := a.Drain(t.Context()); err != nil || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("Drain: %v after %s, want it to wait for the Conn", err, time.Since(begun))
	}
	for range 2 {
		if err := a.Stop(testkit.Within(t, 10*time.Second)); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	if err := c.Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("the client works on: %v", err)
	}
	if err := a.Check(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Check after Stop: %v", err)
	}
}

func TestStopOfAnAdoptedClientReturnsAndCountsWhatItCutsOff(t *testing.T) {
	srv := testserver.Redis(t)
	c, a := foreign(t, &redis.Options{Addr: srv.Addr(), ReadTimeout: -1}, redispool.AdoptConfig{Name: "legacy"})
	conn := c.Conn() // never closed
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() { blocked <- c.BLPop(context.WithoutCancel(t.Context()), 0, "nothing").Err() }()
	testkit.Eventually(t, "the command runs", func() bool { return a.Stats().InUse == 2 })
	if err := a.Drain(testkit.Within(t, 20*time.Millisecond)); err == nil ||
		!strings.Contains(err.Error(), "commands running: 1, connections held: 1") {
		t.Errorf("Drain: %v", err)
	}
	begun := time.Now()
	err := a.Stop(testkit.Within(t, 50*time.Millisecond))
	held, ok := errors.AsType[*poolkeeper.HeldError](err)
	if !ok || held.Commands != 1 || held.Cut != 1 || held.Pool != "legacy" {
		t.Errorf("Stop: %v", err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("Stop took %s", d)
	}
	select {
	case err := <-blocked:
		if err == nil {
			t.Error("the command has an answer")
		}
	case <-testkit.Within(t, 10*time.Second).Done():
		t.Error("the command goes on")
	}
}

func TestSaturatedAdoptedClientIsDegradedAndNotDead(t *testing.T) {
	m := mini(t)
	c, a := foreign(t, &redis.Options{Addr: m.Addr(), PoolSize: 1, PoolTimeout: 20 * time.Millisecond}, redispool.AdoptConfig{})
	conn := c.Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	err := a.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "all 1 connections are in use") || health.Classify(err).Kind != health.KindPoolExhausted {
		t.Errorf("Check: %v (%s)", err, health.Classify(err).Kind)
	}
}

func TestAdoptedClientStartsAsItsPolicySays(t *testing.T) {
	m := mini(t)
	addr := m.Addr()
	m.Close()
	for policy, fails := range map[poolkeeper.StartPolicy]bool{poolkeeper.StartFailFast: true, poolkeeper.StartDegraded: false} {
		_, a := foreign(t, &redis.Options{Addr: addr, MaxRetries: -1}, redispool.AdoptConfig{Start: policy})
		err := a.Start(t.Context())
		if (err != nil) != fails || err != nil && redispool.Classify(err).Kind != health.KindRefused {
			t.Errorf("%s: %v", policy, err)
		}
		if err := a.Check(t.Context()); health.Classify(err).Kind != health.KindRefused {
			t.Errorf("Check: %v", err)
		}
		if err := a.Stop(testkit.Within(t, 10*time.Second)); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
}

func TestAdoptReportsEveryFaultWithTheName(t *testing.T) {
	_, err := redispool.Adopt(nil, redispool.AdoptConfig{Name: "legacy", Start: 99})
	for _, want := range []string{`redispool: new "legacy": Adopt: client is nil`, `redispool: new "legacy": Start is StartPolicy(99)`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestAdoptTakesAClusterClient(t *testing.T) {
	m := mini(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: m.Addr()}}}}, nil
	}})
	a, err := redispool.Adopt(c, redispool.AdoptConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if st := a.Stats(); st.Open != 0 {
		t.Errorf("before Start: %+v", st)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if st := a.Stats(); st.Open == 0 {
		t.Errorf("Stats = %+v", st)
	}
	if err := a.Stop(testkit.Within(t, 10*time.Second)); err != nil {
		t.Errorf("Stop: %v", err)
	}
}
