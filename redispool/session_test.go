package redispool_test

import (
	"context"
	"errors"
	"fmt"
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

func kinds(holders []poolkeeper.Holder) string {
	var names []string
	for _, h := range holders {
		names = append(names, h.Kind)
	}
	return strings.Join(names, " ")
}

func wantHolders(t *testing.T, p *redispool.Pool, want string) {
	t.Helper()
	if got := kinds(p.Holders()); got != want {
		t.Errorf("holders %q, want %q", got, want)
	}
}

func TestHoldersListConnUntilClosed(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr()})
	c := single(t, p).Conn()
	wantHolders(t, p, "") // nothing is taken before the first command
	if err := c.Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "conn")
	if h := p.Holders()[0]; !strings.Contains(h.Stack, "TestHoldersListConnUntilClosed") ||
		strings.Contains(h.Stack, "go-redis") || strings.Contains(h.Stack, "redispool.(") {
		t.Errorf("the stack is to begin with the caller:\n%s", h.Stack)
	}
	if err := c.Set(t.Context(), "a", 2, 0).Err(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "conn")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
	if s := p.Stats(); s.InUse != 0 {
		t.Errorf("%d in use", s.InUse)
	}
}

func TestHoldersListConnThatOnlyPipelines(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr()})
	c := single(t, p).Conn()
	if _, err := c.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		return pipe.Set(t.Context(), "a", 1, 0).Err()
	}); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "conn")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
}

// A Conn whose connection has broken holds its place in the pool until it is closed.
func TestHoldersListConnWithABrokenConnection(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Kill(t)
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Fatal("PING to a dead server")
	}
	wantHolders(t, p, "conn")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
}

func TestHoldersListWatchFromWatchToExec(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr()})
	c := p.Client()
	err := c.Watch(t.Context(), func(tx *redis.Tx) error {
		wantHolders(t, p, "watch")
		if h := p.Holders()[0]; !strings.Contains(h.Stack, "TestHoldersListWatchFromWatchToExec") {
			t.Errorf("the stack does not name the caller:\n%s", h.Stack)
		}
		_, err := tx.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
			return pipe.Set(t.Context(), "a", 1, 0).Err()
		})
		wantHolders(t, p, "") // the server has forgotten what was watched
		if werr := tx.Watch(t.Context(), "b").Err(); werr != nil {
			t.Error(werr)
		}
		wantHolders(t, p, "watch")
		return err
	}, "a")
	if err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "") // go-redis has sent UNWATCH for b
}

func TestHoldersListWatchThatIsGivenUp(t *testing.T) {
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	boom := errors.New("boom")
	if err := p.Client().Watch(t.Context(), func(*redis.Tx) error { return boom }, "w-a"); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
	// Aborted, because a key has changed meanwhile.
	err := p.Client().Watch(t.Context(), func(tx *redis.Tx) error {
		if err := p.Client().Incr(t.Context(), "w-a").Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Incr(t.Context(), "w-a").Err() })
		return err
	}, "w-a")
	if !errors.Is(err, redis.TxFailedErr) {
		t.Fatalf("Watch = %v, want TxFailedErr", err)
	}
	wantHolders(t, p, "")
	// Without keys nothing is watched: commands count while they run.
	err = p.Client().Watch(t.Context(), func(tx *redis.Tx) error { return tx.Ping(t.Context()).Err() })
	if err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
	if s := p.Stats(); s.InUse != 0 {
		t.Errorf("%d in use", s.InUse)
	}
}

func TestHoldersListSubscriptions(t *testing.T) {
	m := mini(t)
	p := started(t, redispool.Config{URL: "redis://" + m.Addr()})
	sub := p.Client().Subscribe(t.Context(), "news")
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "pubsub")
	if h := p.Holders()[0]; !strings.Contains(h.Stack, "TestHoldersListSubscriptions") {
		t.Errorf("the stack does not name the caller:\n%s", h.Stack)
	}
	if s := p.Stats(); s.Open != 0 {
		t.Errorf("%d open in the pool; a subscription has a connection of its own", s.Open)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
}

// HELLO, AUTH and SELECT of a new connection pass through the same hooks as a caller's commands.
// Were they taken for a session, they would be refused while draining and break work in flight.
func TestHandshakeIsNotASession(t *testing.T) {
	m := mini(t)
	m.RequireUserAuth("u", "p")
	p := started(t, redispool.Config{URL: "redis://u:p@" + m.Addr() + "/3?client_name=x", KeepAlive: poolkeeper.Off})
	var during []string
	p.Client().AddHook(watcher{func(name string) {
		if name == "hello" || name == "pipeline" {
			during = append(during, kinds(p.Holders()))
		}
	}})
	held := single(t, p).Conn()
	if err := held.Ping(t.Context()).Err(); err != nil { // takes the connection that is idle, or dials
		t.Fatal(err)
	}
	if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil { // dials
		t.Fatal(err)
	}
	if len(during) < 2 {
		t.Fatalf("%d handshakes seen; the test has lost its point", len(during))
	}
	for _, k := range during {
		if k != "" && k != "conn" {
			t.Errorf("holders during a handshake: %q", k)
		}
	}
	wantHolders(t, p, "conn")

	// A session begun before the drain dials during it.
	late := single(t, p).Conn()
	m.DB(3).FlushDB()
	drained := make(chan error, 1)
	go func() { drained <- p.Drain(within(t, patience)) }()
	eventually(t, "the drain has begun", func() bool {
		return errors.Is(p.Client().Ping(t.Context()).Err(), poolkeeper.ErrDraining)
	})
	if err := late.Set(t.Context(), "b", 1, 0).Err(); err != nil {
		t.Errorf("a command of a session begun before the drain: %v", err)
	}
	for _, c := range []*redis.Conn{held, late} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestLeakIsReportedOnceWithItsStack(t *testing.T) {
	m := mini(t)
	var out testkit.Log
	p := started(t, redispool.Config{
		URL: "redis://" + m.Addr(), LeakThreshold: 50 * time.Millisecond, Logger: out.Logger(),
	})
	leaked := single(t, p).Conn()
	if err := leaked.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	sub := p.Client().Subscribe(t.Context(), "news")
	closed := single(t, p).Conn()
	if err := closed.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil { // only a look at the idle connections can tell
		t.Fatal(err)
	}
	eventually(t, "the leak is reported", func() bool { return strings.Contains(out.String(), "kind=leak") })
	begun := time.Now()
	eventually(t, "four more looks", func() bool { return time.Since(begun) > 200*time.Millisecond })
	text := out.String()
	if n := strings.Count(text, "held for too long"); n != 1 {
		t.Errorf("%d reports, want 1:\n%s", n, text)
	}
	if !strings.Contains(text, "TestLeakIsReportedOnceWithItsStack") || !strings.Contains(text, "holder=conn") {
		t.Errorf("the report does not name holder and place:\n%s", text)
	}
	if n := p.Stats().Leaks; n != 1 {
		t.Errorf("Leaks = %d, want 1: a subscription is meant to be held", n)
	}
	if err := errors.Join(leaked.Close(), sub.Close()); err != nil {
		t.Error(err)
	}
}

func TestWithoutStacksHoldersHaveKindAndAge(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr(), DisableLeakStacks: true})
	c := single(t, p).Conn()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if h := p.Holders(); len(h) != 1 || h[0].Stack != "" || h[0].Since.IsZero() {
		t.Errorf("holders: %+v", h)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// The books are exact whatever runs at once, and closed Conns do not pile up on them.
func TestSessionsUnderContentionLeaveNothingBehind(t *testing.T) {
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 8, EvictionInterval: 10 * time.Millisecond})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			key := fmt.Sprintf("s-%d", w)
			for i := range 60 {
				var err error
				switch i % 3 {
				case 0:
					c := single(t, p).Conn()
					err = errors.Join(c.Set(t.Context(), key, i, 0).Err(), c.Close())
				case 1:
					err = p.Client().Watch(t.Context(), func(tx *redis.Tx) error {
						_, terr := tx.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
							return pipe.Incr(t.Context(), key).Err()
						})
						return terr
					}, key)
				default:
					_, err = p.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
						return pipe.Get(t.Context(), key).Err()
					})
				}
				if err != nil {
					t.Errorf("%d/%d: %v", w, i, err)
					return
				}
				if n := len(p.Holders()); n > 16 {
					t.Errorf("%d holders with 16 callers", n)
				}
			}
		})
	}
	wg.Wait()
	wantHolders(t, p, "")
	if err := p.Drain(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestHooksDoNotSeeTheUpkeep(t *testing.T) {
	srv := testserver.Redis(t)
	p := newPool(t, redispool.Config{
		URL: srv.URL(), MinIdle: 3, MaxIdleTime: 100 * time.Millisecond, KeepAlive: 50 * time.Millisecond,
		EvictionInterval: 10 * time.Millisecond,
	})
	var mu sync.Mutex
	names := map[string]int{}
	p.Client().AddHook(watcher{func(name string) {
		mu.Lock()
		defer mu.Unlock()
		names[name]++
	}})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	together(t, admin(t, srv.Addr()), p.Client(), 10)
	eventually(t, "the surplus is gone", func() bool { return p.Stats().Open == 3 })
	c := single(t, p).Conn()
	if err := errors.Join(c.Get(t.Context(), "a").Err(), c.Close()); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	wantHolders(t, p, "")
	p.Client().AddHook(watcher{func(name string) { t.Errorf("a hook added later has seen %s", name) }})
	begun := time.Now()
	eventually(t, "a few keep-alives", func() bool { return time.Since(begun) > 200*time.Millisecond })
	p.Reset()
	eventually(t, "connections are replaced", func() bool { s := p.Stats(); return s.Evicted["reload"] >= 3 && s.Idle == 3 })
	mu.Lock()
	defer mu.Unlock()
	if names["ping"] != 0 || names["blpop"] != 10 || names["get"] != 1 {
		t.Errorf("the user's hook has seen %v; want his own 10 BLPOPs and 1 GET, and no PING", names)
	}
}

// watcher is a hook of a user's.
type watcher struct{ saw func(name string) }

func (watcher) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.saw(cmd.Name())
		return next(ctx, cmd)
	}
}

func (w watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w.saw("pipeline")
		return next(ctx, cmds)
	}
}

// Two commands of one session may wait for a permit at once, and each is let through; both are owed
// for.
func TestConcurrentCommandsOfASessionReturnAllTheyWereGranted(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, cfg := bubble(t, redispool.Config{MaxOpen: 3, AcquireTimeout: 10 * time.Second, KeepAlive: poolkeeper.Off})
		cfg.MaxOpen = 2
		if err := p.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			c := single(t, p).Conn()
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { // the limit is reached, so that both queue
					if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
						t.Errorf("GET: %v", err)
					}
				})
			}
			synctest.Wait()
			for range 2 {
				both.Go(func() {
					if err := c.Get(t.Context(), "key").Err(); err != nil {
						t.Errorf("GET on a Conn: %v", err)
					}
				})
			}
			both.Wait()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if n := len(p.Holders()); n != 0 {
				t.Fatalf("%d holders", n)
			}
		}
		if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
			t.Errorf("GET after all was returned: %v", err)
		}
	})
}

// A command and a pipeline of one Conn may wait for a permit at once. Both are let through by the one
// that the Conn gets, whichever comes first.
func TestCommandAndPipelineOfAConnShareItsPermit(t *testing.T) {
	for _, first := range []string{"command", "pipeline"} {
		t.Run(first, func(t *testing.T) {
			p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr(), MaxOpen: 1, AcquireTimeout: patience})
			ctx := within(t, patience)
			before, shared := single(t, p).Conn(), single(t, p).Conn()
			if err := before.Ping(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			ways := map[string]func() error{
				"command": func() error { return shared.Ping(ctx).Err() },
				"pipeline": func() error {
					_, err := shared.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Ping(ctx).Err() })
					return err
				},
			}
			done := make(chan error, len(ways))
			begin := func(name string, waiting int) {
				go func() { done <- ways[name]() }()
				eventually(t, name+" waits", func() bool { return p.Stats().Waiting == waiting })
			}
			begin(first, 1)
			for name := range ways {
				if name != first {
					begin(name, 2)
				}
			}
			if err := before.Close(); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for range ways {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(begun); took > patience/4 {
				t.Errorf("it took %s", took)
			}
			wantHolders(t, p, "conn")
			if err := shared.Close(); err != nil {
				t.Error(err)
			}
			wantHolders(t, p, "")
			if err := p.Client().Ping(ctx).Err(); err != nil {
				t.Errorf("after all was returned: %v", err)
			}
		})
	}
}

// A subscription's connection is not one of the pool's, whatever is written on it first.
func TestSubscriptionIsNotOneOfTheConnections(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + mini(t).Addr(), MaxOpen: 1})
	ctx := within(t, patience)
	held := single(t, p).Conn()
	if err := held.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	sub := p.Client().Subscribe(ctx)
	if err := sub.Ping(ctx); err != nil { // before it subscribes to anything
		t.Fatal(err)
	}
	if err := errors.Join(sub.PSubscribe(ctx, "news*"), held.Ping(ctx).Err()); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, p, "conn pubsub")
	if s := p.Stats(); s.Open != 1 || s.InUse != 1 {
		t.Errorf("%d open, %d in use", s.Open, s.InUse)
	}
	if err := errors.Join(sub.Close(), held.Close()); err != nil {
		t.Error(err)
	}
	wantHolders(t, p, "")
	if s := p.Stats(); s.Evicted["reload"] != 0 || s.Open != 1 {
		t.Errorf("the pool's own connection has gone: %+v", s)
	}
}
