package redispool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// number returns the number after a prefix in a line of CLIENT LIST.
func number(t *testing.T, line, prefix string) int64 {
	t.Helper()
	_, rest, _ := strings.Cut(line, prefix)
	digits, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReloadChangesTheLimitUnderLoad(t *testing.T) {
	srv := testserver.Redis(t)
	cfg := redispool.Config{URL: srv.URL(), MaxOpen: 12, AcquireTimeout: patience, Logger: silent()}
	p := started(t, cfg)
	end := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
					t.Errorf("INCR: %v", err)
					return
				}
			}
		})
	}
	for i := range 40 {
		cfg.MaxOpen = 1 + (i*5)%12
		cfg.MinIdle = i % cfg.MaxOpen
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if s := p.Stats(); s.Max != cfg.MaxOpen {
			t.Errorf("Max = %d, want %d", s.Max, cfg.MaxOpen)
		}
	}
	cfg.MaxOpen, cfg.MinIdle = 3, 0
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no more than the new limit is open, for a while", func() bool {
		for range 300 {
			if p.Stats().Open > 3 {
				return false
			}
		}
		return true
	})
	cfg.MaxOpen = 12
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	close(end)
	wg.Wait()
}

func TestReloadRaisesTheLimitUpToTheCeiling(t *testing.T) {
	srv := testserver.Redis(t)
	cfg := redispool.Config{URL: srv.URL(), MaxOpen: 2, MaxOpenCeiling: 10, AcquireTimeout: patience}
	p := started(t, cfg)
	cfg.Logger = silent()
	look := admin(t, srv.Addr())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := p.Client().BLPop(within(t, patience), 0, "queue").Err(); err != nil {
				t.Errorf("BLPOP: %v", err)
			}
		})
	}
	eventually(t, "two are served, eight wait", func() bool {
		s := p.Stats()
		return blocked(t, look) == 2 && s.Max == 2 && s.Open == 2 && s.Waiting == 8
	})
	cfg.MaxOpen = 7
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "seven are served", func() bool { return blocked(t, look) == 7 && p.Stats().Waiting == 3 })
	keep := cfg
	keep.MaxOpen, keep.MaxOpenCeiling = 10, 0 // 0 keeps the ceiling
	if err := p.Reload(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are served", func() bool { return blocked(t, look) == 10 })
	keep.MaxOpen = 11
	if err := p.Reload(t.Context(), keep); err == nil || !strings.Contains(err.Error(), "MaxOpen 11 is above MaxOpenCeiling, 10") {
		t.Errorf("beyond the ceiling: %v", err)
	}
	cfg.MaxOpenCeiling = 20
	if err := p.Reload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "MaxOpenCeiling is fixed") {
		t.Errorf("another ceiling: %v", err)
	}
	if err := look.RPush(t.Context(), "queue", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9).Err(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestPlanSaysWhatReloadWouldDoAndTouchesNothing(t *testing.T) {
	srv := testserver.SharedRedis(t)
	cfg := redispool.Config{URL: srv.URL(), MaxOpen: 5, Logger: silent()}
	p := started(t, cfg)
	before := settings(p)
	cfg.MaxOpen, cfg.KeepAlive = 4, time.Minute
	cfg.URL = "redis://:secret@" + freeAddr(t)
	got, err := p.Plan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []poolkeeper.Change{
		{Field: "MaxOpen", From: "5", To: "4"}, {Field: "KeepAlive", From: "2m0s", To: "1m0s"}, {Field: "URL", From: "…", To: "…"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("Plan = %v, want %v", got, want)
	}
	secret := func(password string) func(context.Context) (string, string, error) {
		return func(context.Context) (string, string, error) { return "app", password, nil }
	}
	q := newPool(t, redispool.Config{URL: srv.URL(), MaxOpen: 5, Logger: cfg.Logger, Credentials: secret("one")})
	same := redispool.Config{URL: srv.URL(), MaxOpen: 5, Logger: cfg.Logger, Credentials: secret("two")}
	if got, err := q.Plan(same); err != nil || len(got) != 1 || got[0].Field != "Credentials" {
		t.Errorf("another function by the same line of code: %v, %v", got, err)
	}
	cfg.MaxOpen = 6
	if _, err := p.Plan(cfg); err == nil || !strings.Contains(err.Error(), "above MaxOpenCeiling, 5") {
		t.Errorf("Plan = %v", err)
	}
	if after := settings(p); !maps.Equal(before, after) {
		t.Errorf("the settings were\n%v\nand are\n%v", before, after)
	}
}

// A check that fails after the switch, for a reason that the trial beforehand could not see, brings
// the old configuration back.
func TestReloadIsRolledBackWhenTheCheckFails(t *testing.T) {
	old, now := testserver.Redis(t), testserver.Redis(t)
	way := testkit.NewProxy(t, now.Addr())
	cfg := redispool.Config{URL: old.URL() + "?max_retries=-1", MaxOpen: 5, DialTimeout: time.Second, ReadTimeout: time.Second, Logger: silent()}
	p := started(t, cfg)
	load := lightTraffic(t, p.Client(), 3)
	eventually(t, "traffic", func() bool { return load.done.Load() > 20 })
	way.MuteAfter(1) // the trial's connection; the check's is never answered
	cfg.URL, cfg.MaxOpen = "redis://"+way.Addr()+"?max_retries=-1", 4
	err := p.Reload(within(t, patience), cfg)
	if err == nil || !strings.Contains(err.Error(), "the old configuration is back") {
		t.Fatalf("Reload = %v", err)
	}
	s := settings(p)
	if s["addresses"] != old.Addr() || s["max_open"] != "5" {
		t.Errorf("in effect: %v", s)
	}
	before := load.done.Load()
	eventually(t, "traffic", func() bool { return load.done.Load() > before+20 })
	load.end()
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestLogNamesTheServerOfTheLastReload(t *testing.T) {
	old, now := testserver.Redis(t), testserver.Redis(t)
	log := new(testkit.Log)
	cfg := redispool.Config{URL: old.URL(), FailFastAfter: 200 * time.Millisecond, Logger: log.Logger()}
	p := started(t, cfg)
	cfg.URL = now.URL()
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	now.Kill(t)
	eventually(t, "the server counts as down", func() bool {
		return errors.Is(p.Client().Get(within(t, patience), "key").Err(), poolkeeper.ErrDown)
	})
	eventually(t, "the log says which server is down", func() bool { return strings.Contains(log.String(), "node="+now.Addr()) })
	if strings.Contains(log.String(), "node="+old.Addr()) {
		t.Errorf("the log names the server of before:\n%s", log)
	}
}

func TestReloadedLimitCountsSessionsAndExplainsItself(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, cfg := bubble(t, redispool.Config{MaxOpen: 5, AcquireTimeout: 10 * time.Second, KeepAlive: poolkeeper.Off})
		cfg.MaxOpen = 2
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		a, b := single(t, p).Conn(), single(t, p).Conn()
		for _, c := range []*redis.Conn{a, b} {
			if err := c.Get(t.Context(), "key").Err(); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		err := p.Client().Get(t.Context(), "key").Err()
		acquire, ok := errors.AsType[*poolkeeper.AcquireError](err)
		if !ok || !errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, poolkeeper.ErrPaused) || acquire.Max != 2 || acquire.InUse != 2 {
			t.Errorf("GET = %v", err)
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
		got := make(chan error, 1)
		go func() { got <- p.Client().Get(t.Context(), "key").Err() }()
		synctest.Wait()
		if err := a.Close(); err != nil { // which go-redis does not report: the next caller looks
			t.Fatal(err)
		}
		if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
			t.Errorf("GET after a Conn was closed: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("a caller in the queue: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestReloadChangesEvictionAndLeakReports(t *testing.T) {
	srv := testserver.Redis(t)
	var out testkit.Log
	cfg := redispool.Config{URL: srv.URL(), MaxOpen: 20, MaxIdleTime: poolkeeper.Off, LeakThreshold: poolkeeper.Off, DisableLeakStacks: true, Logger: out.Logger()}
	p := started(t, cfg)
	together(t, admin(t, srv.Addr()), p.Client(), 10)
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	cfg.MaxIdleTime, cfg.LeakThreshold, cfg.DisableLeakStacks, cfg.Instances = 100*time.Millisecond, 100*time.Millisecond, false, 3
	if err := p.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the surplus goes, and the leak is reported", func() bool {
		s := p.Stats()
		return s.Open == 1 && s.Leaks == 1
	})
	for _, want := range []string{"kind=reloaded", `MaxIdleTime="0s → 100ms"`, "Instances=\"1 → 3\"", "held for too long"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, out.String())
		}
	}
	d := single(t, p).Conn()
	if err := d.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if h := p.Holders(); len(h) != 2 || h[1].Stack == "" {
		t.Errorf("stacks are on now: %+v", h)
	}
	if err := errors.Join(c.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	dials := p.Stats().Dials
	if err := p.Reload(t.Context(), cfg); err != nil { // nothing to do
		t.Error(err)
	}
	if p.Stats().Dials != dials {
		t.Error("a Reload without a change has dialled")
	}
}

func TestReloadThatCannotBeDoneTouchesNothing(t *testing.T) {
	srv := testserver.SharedRedis(t)
	cfg := redispool.Config{URL: srv.URL(), Name: "cache", MaxOpen: 5, Logger: silent()}
	p := started(t, cfg)
	before := settings(p)
	bad := cfg
	bad.URL = srv.URL() + "?client_name=other&protocol=2"
	bad.Name, bad.MaxOpen, bad.AcquireTimeout, bad.Start = "other", 6, time.Second, poolkeeper.StartWaitForServer
	bad.DialTimeout, bad.ReadTimeout, bad.WriteTimeout = time.Second, time.Second, 2*time.Second
	err := p.Reload(t.Context(), bad)
	for _, want := range []string{
		"nothing was changed", "Name is fixed", "MaxOpen 6 is above MaxOpenCeiling, 5", "AcquireTimeout is fixed", "DialTimeout is fixed", "ReadTimeout is fixed",
		"WriteTimeout is fixed", "Start is fixed", "ClientName of URL or Options is fixed", "Protocol of URL or Options is fixed",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Reload = %v; want it to say %q", err, want)
		}
	}
	if err := p.Reload(t.Context(), redispool.Config{URL: "redis+cluster://h", Logger: silent(), MaxOpen: 5}); err == nil || !strings.Contains(err.Error(), "kind of client") {
		t.Errorf("another kind: %v", err)
	}
	if err := p.Reload(t.Context(), redispool.Config{URL: "nonsense"}); err == nil {
		t.Error("a faulty configuration was taken")
	}
	nowhere := cfg
	nowhere.URL = "redis://" + freeAddr(t)
	if err := p.Reload(within(t, patience), nowhere); health.Classify(err).Kind != health.KindRefused {
		t.Errorf("an address where nobody listens: %v", err)
	}
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	after := settings(p)
	for k := range before {
		if before[k] != after[k] {
			t.Errorf("%s was %q and is %q", k, before[k], after[k])
		}
	}
}

func TestReloadMovesToAnotherServerWithoutAFailedCommand(t *testing.T) {
	old, now := testserver.Redis(t), testserver.Redis(t)
	cfg := redispool.Config{URL: old.URL() + "?max_retries=-1", MaxOpen: 20, MinIdle: 2, Logger: silent()}
	p := started(t, cfg)
	load := lightTraffic(t, p.Client(), 6)
	eventually(t, "traffic", func() bool { return load.done.Load() > 50 })
	cfg.URL = now.URL() + "?max_retries=-1"
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	look, other := admin(t, old.Addr()), admin(t, now.Addr())
	eventually(t, "nobody is left at the old server", func() bool {
		list, err := look.ClientList(t.Context()).Result()
		return err == nil && strings.Count(list, "\n") == 1
	})
	eventually(t, "traffic at the new one", func() bool {
		n, err := other.Get(t.Context(), "count").Int()
		return err == nil && n > 50
	})
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}
	if got := settings(p)["addresses"]; got != now.Addr() {
		t.Errorf("Settings say %q", got)
	}
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestReloadRotatesCredentials(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	user := func(name, password string) {
		t.Helper()
		if err := look.Do(t.Context(), "acl", "setuser", name, "reset", "on", ">"+password, "~*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	user("blue", "one")
	cfg := redispool.Config{URL: "redis://blue:one@" + srv.Addr() + "?max_retries=-1", MinIdle: 3, Logger: silent()}
	p := started(t, cfg)
	load := lightTraffic(t, p.Client(), 4)
	wrong := cfg
	wrong.URL = "redis://green:wrong@" + srv.Addr() + "?max_retries=-1"
	err := p.Reload(within(t, patience), wrong)
	if health.Classify(err).Kind != health.KindAuthentication || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("a wrong password: %v", err)
	}
	user("green", "two")
	cfg.URL = "redis://green:two@" + srv.Addr() + "?max_retries=-1"
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "blue is gone", func() bool {
		list, err := look.ClientList(t.Context()).Result()
		return err == nil && !strings.Contains(list, "user=blue") && strings.Contains(list, "user=green")
	})
	// Credentials that change by themselves are noticed as they are asked for.
	var mu sync.Mutex
	name, password := "green", "two"
	cfg.Credentials = func(context.Context) (string, string, error) {
		mu.Lock()
		defer mu.Unlock()
		return name, password, nil
	}
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	user("blue", "three")
	mu.Lock()
	name, password = "blue", "three"
	mu.Unlock()
	var held []*redis.Conn // more than are idle: one is dialled
	for dials := p.Stats().Dials; p.Stats().Dials == dials; {
		c := single(t, p).Conn()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "green is gone, but for the check", func() bool {
		list, err := look.ClientList(t.Context()).Result()
		return err == nil && strings.Count(list, "user=green") <= 1
	})
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}
}

func TestReloadChangesTLS(t *testing.T) {
	ca := testcerts.New(t)
	m, err := miniredis.RunTLS(&tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	first := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	cfg := redispool.Config{URL: "redis://" + m.Addr(), TLS: first, Logger: silent()}
	p := started(t, cfg)
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	dials := p.Stats().Dials
	cfg.MinIdle = 1
	if err := p.Reload(within(t, patience), cfg); err != nil { // the same TLS
		t.Fatal(err)
	}
	if p.Stats().Evicted["reload"] != 0 {
		t.Error("connections were replaced without need")
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // trusts no authority here
	if err := p.Reload(within(t, patience), cfg); health.Classify(err).Kind != health.KindTLS {
		t.Errorf("an unknown authority: %v", err)
	}
	cfg.TLS = first.Clone()
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s.Evicted["reload"] == 0 || s.Dials == dials {
		t.Errorf("connections were not replaced: %+v", s)
	}
	if err := p.Client().Get(t.Context(), "a").Err(); err != nil {
		t.Error(err)
	}
}

// A dial that was begun before a Reload and ends after it leads to where the pool was before.
func TestReloadReplacesAConnectionThatIsBeingOpenedToTheOldServer(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		var oldDials, newDials atomic.Int64
		release, slow := make(chan struct{}), atomic.Bool{}
		cfg := redispool.Config{
			MaxOpen: 5, KeepAlive: poolkeeper.Off, Logger: silent(), DialTimeout: time.Minute, AcquireTimeout: time.Minute,
			Options: &redis.UniversalOptions{
				Addrs: []string{"old:1"}, MaxRetries: -1,
				Dialer: func(context.Context, string, string) (net.Conn, error) {
					oldDials.Add(1)
					if slow.Load() {
						<-release
					}
					return newFakeServer(), nil
				},
			},
		}
		p, err := redispool.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Abort() })
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		slow.Store(true)
		got := make(chan error, 1)
		go func() { got <- p.Client().Get(t.Context(), "key").Err() }()
		synctest.Wait()
		next := *cfg.Options
		next.Dialer = func(context.Context, string, string) (net.Conn, error) {
			newDials.Add(1)
			return newFakeServer(), nil
		}
		cfg.Options = &next
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		before := newDials.Load()
		close(release)
		if err := <-got; err != nil {
			t.Errorf("the command: %v", err)
		}
		synctest.Wait()
		if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
			t.Error(err)
		}
		if n := newDials.Load() - before; n == 0 {
			t.Error("the connection to the old server is in use")
		}
	})
}

// INV-9: the connection by which a Reload tries what is new is one of the pool's too.
func TestStopClosesTheConnectionThatAReloadTries(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := redispool.Config{URL: "redis://" + mini(t).Addr(), DialTimeout: patience, ReadTimeout: patience}
	p := started(t, cfg)
	cfg.URL = "redis://" + l.Addr().String()
	reloaded := make(chan error, 1)
	go func() { reloaded <- p.Reload(t.Context(), cfg) }()
	tried, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tried.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stopped := p.Stop(ctx)
	if err = tried.SetDeadline(time.Now().Add(patience / 4)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<10)
	for err = nil; err == nil; {
		_, err = tried.Read(buf)
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Errorf("after Stop, which returned %v, the connection is open", stopped)
	}
	if err := <-reloaded; err == nil {
		t.Error("Reload has succeeded")
	}
}
