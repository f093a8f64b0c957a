package redispool_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// happening is something that a pool tells, and how it comes about.
type happening struct {
	kind  poolkeeper.EventKind
	level slog.Level
	cfg   redispool.Config
	cause func(t *testing.T, l *line, p *redispool.Pool)
	err   bool   // the event says why
	held  string // the kind of the holder that the event names; empty: none
}

func pauseAndResume(t *testing.T, _ *line, p *redispool.Pool) {
	t.Helper()
	if err := p.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Second)
	p.Resume()
}

func outageOfSeconds(t *testing.T, l *line, p *redispool.Pool) {
	t.Helper()
	l.become(refusing)
	for range 100 {
		_, _ = get(t, p)
		time.Sleep(100 * time.Millisecond)
	}
	l.become(up)
	time.Sleep(time.Minute)
}

// reloadTo reloads with another MaxOpen.
func reloadTo(t *testing.T, l *line, p *redispool.Pool, maxOpen int) error {
	t.Helper()
	return p.Reload(t.Context(), redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"x:1"}, MaxRetries: -1, Dialer: l.dial},
		MaxOpen: maxOpen, KeepAlive: poolkeeper.Off, Logger: silent(),
	})
}

// tokens answers with the password of the moment.
func tokens(password *atomic.Value) func(context.Context) (string, string, error) {
	return func(context.Context) (string, string, error) {
		now, _ := password.Load().(string)
		return "", now, nil
	}
}

func happenings() []happening {
	password := new(atomic.Value)
	password.Store("first")
	return []happening{
		{
			kind: poolkeeper.EventLeak, level: slog.LevelWarn, cfg: redispool.Config{LeakThreshold: time.Minute}, held: poolkeeper.KindConn,
			cause: func(t *testing.T, _ *line, p *redispool.Pool) {
				t.Helper()
				c := single(t, p).Conn()
				if err := c.Get(t.Context(), "key").Err(); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Minute)
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			},
		},
		{kind: poolkeeper.EventReset, cause: func(_ *testing.T, _ *line, p *redispool.Pool) { p.Reset() }},
		{kind: poolkeeper.EventPaused, cause: pauseAndResume},
		{kind: poolkeeper.EventResumed, cause: pauseAndResume},
		{kind: poolkeeper.EventDown, level: slog.LevelWarn, cause: outageOfSeconds, err: true},
		{kind: poolkeeper.EventUp, cause: outageOfSeconds},
		{kind: poolkeeper.EventReloaded, cause: func(t *testing.T, l *line, p *redispool.Pool) {
			t.Helper()
			if err := reloadTo(t, l, p, 3); err != nil {
				t.Error(err)
			}
		}},
		{kind: poolkeeper.EventReloadRefused, level: slog.LevelWarn, err: true, cause: func(t *testing.T, l *line, p *redispool.Pool) {
			t.Helper()
			if err := reloadTo(t, l, p, -3); err == nil {
				t.Error("a negative MaxOpen is accepted")
			}
		}},
		{
			kind: poolkeeper.EventRenewed, cfg: redispool.Config{Credentials: tokens(password)},
			cause: func(t *testing.T, _ *line, p *redispool.Pool) {
				t.Helper()
				_, _ = get(t, p)
				password.Store("second")
				p.Reset() // a new connection logs in
				synctest.Wait()
				if _, err := get(t, p); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
			},
		},
		{kind: poolkeeper.EventPanic, level: slog.LevelError, err: true, cause: func(t *testing.T, l *line, p *redispool.Pool) {
			t.Helper()
			p.ObserveWith(observerFunc(func(error) { panic("observer") }))
			l.become(refusing)
			if _, err := get(t, p); err == nil {
				t.Error("a command succeeds without a server")
			}
		}},
	}
}

type observerFunc func(error)

func (f observerFunc) Observe(err error) { f(err) }

func TestSubscribersAreToldWhatHappensToAPool(t *testing.T) {
	for _, h := range happenings() {
		t.Run(string(h.kind), func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, l := outageBubble(t, h.cfg, -1, up)
				log, cancelled := subscribed(p), new(pooltest.Events)
				p.Subscribe(cancelled.Add)()
				began := time.Now()
				h.cause(t, l, p)
				synctest.Wait()
				pooltest.Told(t, log, pooltest.Event{Kind: h.kind, Level: h.level, Err: h.err, Held: h.held}, began)
				if len(cancelled.All()) > 0 {
					t.Errorf("told after cancel: %v", cancelled.All())
				}
			})
		})
	}
}

// What only a real server can say.
func TestSubscribersAreToldOfLimitsAndRefusedRenewals(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "first", "--maxclients", "50")
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte("first"))
	p := newPool(t, redispool.Config{
		URL: "redis://" + srv.Addr(), MaxOpen: 40, Instances: 9, CredentialsFile: secret, FileInterval: 20 * time.Millisecond,
	})
	log := subscribed(p)
	if err := p.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if got := log.Of(poolkeeper.EventLimits); len(got) != 1 || got[0].Level != slog.LevelWarn || len(got[0].Attrs) == 0 {
		t.Errorf("%v, want the limit of the server", got)
	}
	write(t, secret, []byte("wrong"))
	eventually(t, "the renewal is rejected", func() bool { return len(log.Of(poolkeeper.EventRenewalRefused)) == 1 })
	if e := log.Of(poolkeeper.EventRenewalRefused)[0]; e.Err == nil || e.Cause != "authentication" || e.Advice == "" {
		t.Errorf("%+v", e)
	}
	if got := log.Of(poolkeeper.EventRenewed); len(got) > 0 {
		t.Errorf("told of %v", got)
	}
}
