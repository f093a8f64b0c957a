package redispool_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// bubble is a pool on fake servers, for virtual time.
func bubble(t *testing.T, cfg redispool.Config) (*redispool.Pool, redispool.Config) {
	t.Helper()
	cfg.Options = &redis.UniversalOptions{
		Addrs: []string{"x:1"}, MaxRetries: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return newFakeServer(), nil },
	}
	cfg.Logger = silent()
	p, err := redispool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Abort(); err != nil {
			t.Logf("abort: %v", err)
		}
	})
	return p, cfg
}

func TestPauseHoldsCallersUpAndResumeServesThemInOrder(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: time.Hour, KeepAlive: poolkeeper.Off})
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
				t.Errorf("in flight when the pause begins: %v", err)
			}
		})
		synctest.Wait()
		begun := time.Now()
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < time.Second {
			t.Errorf("paused after %s, with a command in flight", took)
		}
		if s := p.Stats(); s.Open != 0 {
			t.Errorf("%d connections open in a pause", s.Open)
		}
		if err := p.Pause(t.Context()); err != nil {
			t.Errorf("a second Pause: %v", err)
		}
		if err := p.Check(t.Context()); err != nil {
			t.Errorf("Check in a pause: %v", err)
		}
		for i := range 5 {
			wg.Go(func() {
				if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
					t.Errorf("a caller: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			time.Sleep(time.Second)
		}
		if s := p.Stats(); s.Waiting != 5 || s.Open != 0 || len(order) != 0 {
			t.Errorf("%d wait, %d open, %d served", s.Waiting, s.Open, len(order))
		}
		p.Resume()
		p.Resume()
		wg.Wait()
		// The first waits for 5 s, the last for 1 s, and as there is one connection, each for those
		// before it.
		if s := p.Stats(); s.WaitCount != 5 || s.WaitDuration != 25*time.Second {
			t.Errorf("%d waits, %s in all", s.WaitCount, s.WaitDuration)
		}
		if !slices.IsSorted(order) || len(order) != 5 {
			t.Errorf("served in the order %v", order)
		}
	})
}

// wantLine checks that one line of a log has all of parts.
func wantLine(t *testing.T, log string, parts ...string) {
	t.Helper()
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return
		}
	}
	t.Errorf("no line with %q in\n%s", parts, log)
}

func TestPauseThatComesToNothingLetsCallersGoOn(t *testing.T) {
	srv := testserver.SharedRedis(t)
	var out testkit.Log
	p := started(t, redispool.Config{URL: srv.URL(), Name: "cache", Logger: out.Logger()})
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := p.Pause(ctx)
	wantLine(t, out.String(), "kind=paused", "level=INFO", "in_use=1")
	wantLine(t, out.String(), "kind=resumed", "level=WARN", "the pause was given up", "paused_for=", "deadline exceeded")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "TestPauseThatComesToNothing") ||
		!strings.Contains(err.Error(), "callers go on") {
		t.Errorf("Pause = %v", err)
	}
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestResumeAndDrainEndAPauseThatIsNotYetAtRest(t *testing.T) {
	srv := testserver.SharedRedis(t)
	for name, end := range map[string]struct {
		by   func(*redispool.Pool)
		want string
	}{
		"Resume": {(*redispool.Pool).Resume, "Resume was called meanwhile"},
		"Drain": {func(p *redispool.Pool) {
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			cancel()
			if err := p.Drain(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Drain = %v", err)
			}
		}, poolkeeper.ErrDraining.Error()},
		"Abort": {func(p *redispool.Pool) { _ = p.Abort() }, poolkeeper.ErrDraining.Error()}, // which tells of the Conn
	} {
		t.Run(name, func(t *testing.T) {
			p := started(t, redispool.Config{URL: srv.URL()})
			c := single(t, p).Conn()
			if err := c.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			paused := make(chan error, 1)
			go func() { paused <- p.Pause(within(t, patience)) }()
			eventually(t, "the pause begins", func() bool {
				return errors.Is(p.Client().Ping(within(t, 5*time.Millisecond)).Err(), poolkeeper.ErrPaused)
			})
			const callers = 10
			served := make(chan error, callers)
			ctx := within(t, patience)
			for range callers {
				go func() { served <- p.Client().Ping(ctx).Err() }()
			}
			eventually(t, "all callers wait", func() bool { // for the pause, and not for a dial
				return p.Stats().Waiting == callers && single(t, p).PoolStats().PendingRequests == 0
			})
			if name == "Resume" {
				if err := c.Ping(t.Context()).Err(); err != nil {
					t.Errorf("a session that was open before: %v", err)
				}
			}
			end.by(p)
			if err := <-paused; err == nil || !strings.Contains(err.Error(), end.want) {
				t.Errorf("Pause = %v, want it to say %q", err, end.want)
			}
			for range callers {
				if err := <-served; (err == nil) != (name == "Resume") {
					t.Errorf("a caller: %v", err)
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCallersGiveUpOnAPauseWithAReason(t *testing.T) {
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL(), Name: "cache", AcquireTimeout: 30 * time.Millisecond})
	held := single(t, p).Conn()
	if err := p.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.Client()
	pipe := c.Pipeline()
	get := pipe.Get(t.Context(), "a")
	_, perr := pipe.Exec(t.Context())
	werr := c.Watch(t.Context(), func(*redis.Tx) error { t.Error("a watch has begun"); return nil }, "a")
	for name, err := range map[string]error{
		"command": c.Get(t.Context(), "a").Err(), "pipeline": perr, "its command": get.Err(), "watch": werr,
		"conn": held.Get(t.Context(), "a").Err(),
	} {
		acquire, ok := errors.AsType[*poolkeeper.AcquireError](err)
		if !ok || !errors.Is(err, poolkeeper.ErrPaused) || !errors.Is(err, redis.ErrPoolTimeout) || acquire.Pool != "cache" {
			t.Errorf("%s: %v, want an AcquireError that wraps ErrPaused", name, err)
		}
	}
	if n := p.Stats().AcquireTimeouts; n < 4 {
		t.Errorf("%d timeouts counted", n)
	}
	wantHolders(t, p, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "a").Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
	p.Resume()
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the Conn after the pause: %v", err)
	}
	wantHolders(t, p, "conn")
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}

func TestDrainEndsAPause(t *testing.T) {
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	if err := p.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- p.Client().Ping(within(t, patience)).Err() }()
	eventually(t, "a caller waits", func() bool { return p.Stats().Waiting == 1 })
	if err := p.Drain(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("the caller: %v, want ErrDraining", err)
	}
	if err := p.Pause(t.Context()); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("Pause while draining: %v", err)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := p.Pause(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Pause after Stop: %v", err)
	}
}

// A planned failover, under load: callers see no more than a delay.
func TestPlannedFailoverUnderPause(t *testing.T) {
	old, now := testserver.Redis(t), testserver.Redis(t)
	way := testkit.NewProxy(t, old.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: -1}, MaxOpen: 10,
	})
	load := lightTraffic(t, p.Client(), 6)
	eventually(t, "traffic", func() bool { return load.done.Load() > 50 })
	if err := p.Pause(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	old.Kill(t)
	way.Point(now.Addr())
	p.Resume()
	before := load.done.Load()
	eventually(t, "traffic on the new server", func() bool { return load.done.Load() > before+50 })
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed, without retries", n)
	}
}

func TestClusterIsPausedAtItsDoor(t *testing.T) {
	k := newCluster(t, 2, 0)
	p := started(t, redispool.Config{Options: k.options(), AcquireTimeout: time.Second})
	c := p.Client()
	if err := c.Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	_, perr := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Get(t.Context(), "a").Err() })
	for name, err := range map[string]error{
		"command": c.Get(t.Context(), "a").Err(), "pipeline": perr,
		"watch": c.Watch(t.Context(), func(*redis.Tx) error { return nil }, "a"),
	} {
		if !errors.Is(err, poolkeeper.ErrPaused) {
			t.Errorf("%s: %v, want ErrPaused", name, err)
		}
	}
	if n := p.Stats().Open; n != 0 {
		t.Errorf("%d open in a pause", n)
	}
	p.Resume()
	if err := c.Get(t.Context(), "a").Err(); err != nil {
		t.Error(err)
	}
}

func TestWatchOnAClusterWaitsOutAPause(t *testing.T) {
	k := newCluster(t, 1, 0)
	p := started(t, redispool.Config{Options: k.options(), AcquireTimeout: patience})
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		result <- p.Client().Watch(within(t, patience), func(tx *redis.Tx) error { return ping(t.Context(), tx.TxPipeline()) }, "n")
	}()
	eventually(t, "it waits", func() bool { return p.Stats().Waiting == 1 })
	p.Resume()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestRecycleReplacesEveryConnection(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1}, MaxOpen: 30, KeepAlive: poolkeeper.Off,
	})
	together(t, look, p.Client(), 20)
	held := single(t, p).Conn()
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	load := lightTraffic(t, p.Client(), 3)
	newest := latestID(t, look)
	p.Reset()
	eventually(t, "only the held one is old", func() bool { return oldConns(t, look, newest) == 2 }) // and the check's
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a connection in use: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "that one goes at its next turn", func() bool { return oldConns(t, look, newest) == 1 })
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}
	if s := p.Stats(); s.Evicted["reload"] < 20 || s.Evicted["dead"] > 0 {
		t.Errorf("evicted %v, want 20 for reload", s.Evicted)
	}
}

// latestID is the id of the newest client the server knows.
func latestID(t *testing.T, look *redis.Client) int64 {
	t.Helper()
	id, err := look.ClientID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range pools(t, look) {
		id = max(id, c)
	}
	return id
}

// oldConns counts the pool's connections that are not newer than id.
func oldConns(t *testing.T, look *redis.Client, id int64) int {
	t.Helper()
	n := 0
	for _, c := range pools(t, look) {
		if c <= id {
			n++
		}
	}
	return n
}

// pools lists the ids of the connections named p.
func pools(t *testing.T, look *redis.Client) []int64 {
	t.Helper()
	infos, err := look.ClientList(within(t, patience)).Result()
	if err != nil {
		t.Fatal(err)
	}
	var out []int64
	for line := range strings.Lines(infos) {
		if strings.Contains(line, " name=p ") {
			out = append(out, number(t, line, "id="))
		}
	}
	return out
}

// A caller's patience may end at the very moment at which its turn comes: then the turn is the next
// one's.
func TestTurnThatComesTooLateIsHandedOn(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, cfg := bubble(t, redispool.Config{MaxOpen: 2, AcquireTimeout: time.Minute, KeepAlive: poolkeeper.Off})
		cfg.MaxOpen = 1
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			var all sync.WaitGroup
			all.Go(func() {
				if err := p.Client().Get(t.Context(), "slow").Err(); err != nil { // a second
					t.Error(err)
				}
			})
			synctest.Wait()
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = p.Client().Get(ctx, "key").Err() // either way
			})
			synctest.Wait()
			if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
				t.Fatal(err)
			}
			all.Wait()
		}
	})
}
