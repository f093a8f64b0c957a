package redispool_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A caller that gives up at the very moment at which it is served passes its permit on.
func TestTurnThatComesTogetherWithTheTimeoutIsNotLost(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 1, MaxOpenCeiling: 2, AcquireTimeout: time.Hour, KeepAlive: poolkeeper.Off})
		served, gaveUp := 0, 0
		for i := range 300 {
			first := make(chan error, 1)
			go func() { first <- p.Client().Get(t.Context(), "slow").Err() }() // takes a second
			synctest.Wait()
			// Just before, at, and just after the moment.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Duration(i%3-1))
			err := p.Client().Get(ctx, "key").Err()
			cancel()
			switch {
			case err == nil:
				served++
			case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded): // the latter with the turn
				gaveUp++
			default:
				t.Fatal(err)
			}
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := p.Client().Get(t.Context(), "key").Err(); err != nil || time.Since(begun) > 0 {
				t.Fatalf("the next one: %v after %s", err, time.Since(begun))
			}
		}
		if served < 100 || gaveUp < 100 {
			t.Errorf("%d served, %d gave up, want 100 or more of each", served, gaveUp)
		}
		if s := p.Stats(); s.Waiting != 0 || s.InUse != 0 || s.Open > 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPauseAndReloadTakeTurns(t *testing.T) {
	cfg := redispool.Config{URL: testserver.SharedRedis(t).URL(), MaxOpen: 5, Logger: silent()}
	p := started(t, cfg)
	held := single(t, p).Conn()
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	paused := make(chan error, 1)
	go func() { paused <- p.Pause(within(t, patience)) }() // waits for the Conn
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	next := cfg
	eventually(t, "a Reload has to wait", func() bool {
		next.MaxOpen = 9 - next.MaxOpen // 4, 5, 4 …
		err := p.Reload(soon(), next)
		return err != nil && strings.Contains(err.Error(), "another pause or reload is under way") && errors.Is(err, context.DeadlineExceeded)
	})
	if err := p.Pause(soon()); err == nil || !strings.Contains(err.Error(), "another pause or reload is under way") {
		t.Errorf("another Pause: %v", err)
	}
	if _, err := p.Plan(next); err != nil {
		t.Errorf("Plan needs no turn: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if err := <-paused; err != nil {
		t.Error(err)
	}
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Errorf("Reload in a pause: %v", err)
	}
	p.Resume()
	if err := p.Drain(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := p.Reload(t.Context(), cfg); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("Reload while draining: %v", err)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := p.Reload(t.Context(), cfg); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Reload after Stop: %v", err)
	}
	p.Reset() // has nothing to do
}

func TestAddressesOfAClusterAndOfSentinelsAreFixed(t *testing.T) {
	for from, to := range map[string]string{
		"redis+cluster://h:1":                   "redis+cluster://h:2",
		"redis+sentinel://h:1?master_name=shop": "redis+sentinel://h:2?master_name=shop",
	} {
		p := newPool(t, redispool.Config{URL: from})
		if _, err := p.Plan(redispool.Config{URL: to}); err == nil || !strings.Contains(err.Error(), "Addrs of URL or Options is fixed") {
			t.Errorf("from %s to %s: %v", from, to, err)
		}
	}
}

func TestCredentialsProvidersOfOptionsAreAsked(t *testing.T) {
	m := mini(t)
	m.RequireUserAuth("app", "secret")
	for name, o := range map[string]*redis.UniversalOptions{
		"provider": {CredentialsProvider: func() (string, string) { return "app", "secret" }},
		"provider with a context": {CredentialsProviderContext: func(context.Context) (string, string, error) {
			return "app", "secret", nil
		}},
		"constants": {Username: "app", Password: "secret"},
	} {
		o.Addrs = []string{m.Addr()}
		p := started(t, redispool.Config{Options: o})
		if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	failing := errors.New("the vault is sealed")
	p := newPool(t, redispool.Config{
		URL: "redis://" + m.Addr(), Credentials: func(context.Context) (string, string, error) { return "", "", failing },
	})
	if err := p.Start(within(t, patience)); !errors.Is(err, failing) {
		t.Errorf("Start = %v, want the vault's error", err)
	}
	user := newPool(t, redispool.Config{ // an empty user keeps that of the URL
		URL: "redis://app@" + m.Addr(), Credentials: func(context.Context) (string, string, error) { return "", "secret", nil },
	})
	if err := user.Start(within(t, patience)); err != nil {
		t.Errorf("the user of the URL: %v", err)
	}
}
