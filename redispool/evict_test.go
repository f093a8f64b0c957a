package redispool_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// traffic is light traffic: callers that each send a command every few milliseconds, in turn to the
// keys given.
type traffic struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	done   atomic.Int64
	failed atomic.Int64
}

func lightTraffic(tb testing.TB, c redis.UniversalClient, callers int, keys ...string) *traffic {
	tb.Helper()
	if len(keys) == 0 {
		keys = []string{"count"}
	}
	tr := &traffic{stop: make(chan struct{})}
	for i := range callers {
		tr.wg.Go(func() {
			pause := time.NewTicker(3 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-tr.stop:
					return
				case <-pause.C:
				}
				if err := c.Incr(tb.Context(), keys[i%len(keys)]).Err(); err != nil {
					tr.failed.Add(1)
					tb.Errorf("INCR: %v", err)
				}
				tr.done.Add(1)
			}
		})
	}
	tb.Cleanup(tr.end)
	return tr
}

func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.wg.Wait()
}

// The scenario of go-redis#3575, seen by the server: a burst opens 100 connections, then light
// traffic goes on. The managed pool gives the surplus back within MaxIdleTime plus an interval,
// without a failed command and without a dial. go-redis on its own, asked for the same MaxIdleTime,
// keeps all 100.
func TestSurplusOfABurstIsClosedUnderTraffic(t *testing.T) { // INV-7
	const burst, callers, minIdle = 100, 3, 2
	const maxIdle, interval = 1500 * time.Millisecond, 100 * time.Millisecond
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())

	raw := redis.NewClient(&redis.Options{
		Addr: srv.Addr(), ClientName: "raw", PoolSize: 150, MinIdleConns: minIdle, ConnMaxIdleTime: maxIdle,
	})
	t.Cleanup(func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	})
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "managed"},
		MaxOpen: 150, MinIdle: minIdle, MaxIdleTime: maxIdle, EvictionInterval: interval,
	})
	together(t, look, raw, burst)
	together(t, look, p.Client(), burst)
	burstEnd := time.Now()
	rawLoad, load := lightTraffic(t, raw, callers), lightTraffic(t, p.Client(), callers)

	const check = 1 // the health check's connection has the same name
	before := clients(t, look)
	if before["raw"] < burst || before["managed"] < burst+check {
		t.Fatalf("after the burst the server sees %v", before)
	}
	dials := p.Stats().Dials
	eventually(t, "the surplus is closed", func() bool { return clients(t, look)["managed"] <= callers+minIdle+check })
	took := time.Since(burstEnd)
	if took < maxIdle-interval { // the burst's commands ended before burstEnd
		t.Errorf("closed %s after the burst, before MaxIdleTime %s was over", took, maxIdle)
	}
	if n := clients(t, look)["raw"]; n < burst {
		t.Errorf("go-redis alone has closed %d of %d: the comparison has lost its point", burst-n, burst)
	}

	// It stays that way, and the traffic has noticed nothing.
	settled := load.done.Load()
	eventually(t, "traffic goes on", func() bool { return load.done.Load() > settled+200 })
	rawLoad.end()
	load.end()
	s := p.Stats()
	if s.Open < minIdle || s.Open > callers+minIdle {
		t.Errorf("%d open, want between MinIdle %d and %d more for the traffic", s.Open, minIdle, callers)
	}
	if s.Dials != dials {
		t.Errorf("%d dials since the burst, want 0", s.Dials-dials)
	}
	if load.failed.Load() != 0 || load.done.Load() == 0 {
		t.Errorf("%d of %d commands failed", load.failed.Load(), load.done.Load())
	}
	if got := s.Evicted[poolkeeper.EvictedIdle]; got < burst-callers-minIdle {
		t.Errorf("%d counted as evicted for idleness, want at least %d", got, burst-callers-minIdle)
	}
	if s.Evicted[poolkeeper.EvictedDead] != 0 {
		t.Errorf("%d counted as dead, want 0", s.Evicted[poolkeeper.EvictedDead])
	}
	t.Logf("server-side connections %s after the burst: managed %d (check included), raw %d; %d commands, %d dials by the sweep",
		took.Round(time.Millisecond), clients(t, look)["managed"], clients(t, look)["raw"], load.done.Load(), s.Dials-dials)
}

// What a sweep leaves must be the connections used last, or a load balancer that forgets silent
// connections would leave us with the dead ones.
func TestSweepKeepsTheConnectionsUsedLast(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	for _, fifo := range []bool{false, true} {
		name := "fifo=" + strconv.FormatBool(fifo)
		t.Run(name, func(t *testing.T) {
			p := started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: name, PoolFIFO: fifo},
				MaxOpen: 50, MaxIdleTime: 2500 * time.Millisecond, EvictionInterval: 50 * time.Millisecond, KeepAlive: poolkeeper.Off,
			})
			together(t, look, p.Client(), 30)
			load := lightTraffic(t, p.Client(), 3)
			eventually(t, "30 are reduced to the traffic's", func() bool { return p.Stats().Open <= 3 })
			list, err := look.ClientList(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			load.end()
			for line := range strings.Lines(list) {
				fields := strings.Fields(line)
				if !slices.Contains(fields, "name="+name) || !slices.Contains(fields, "cmd=incr") {
					continue // the check's connection has pinged only
				}
				for _, f := range fields {
					if idle, ok := strings.CutPrefix(f, "idle="); ok && idle != "0" && idle != "1" {
						t.Errorf("a survivor was idle for %s s under traffic: %s", idle, line)
					}
				}
			}
		})
	}
}

// A caller that comes while the pool borrows the idle connections waits for a moment. It does not
// dial, however many are borrowed just then. The connection used last is the next to be used, also
// after the pool had borrowed it.
func TestLookingThroughWhatIsIdleIsNotNoticed(t *testing.T) { // INV-7
	const conns, busy = 24, 4
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 2 * conns, MaxIdleTime: poolkeeper.Off, KeepAlive: 5 * time.Millisecond, EvictionInterval: 10 * time.Millisecond,
	})
	together(t, look, p.Client(), conns)
	before := p.Stats()
	load := lightTraffic(t, p.Client(), busy)
	eventually(t, "many sweeps under traffic", func() bool { return load.done.Load() > 500 })
	load.end()
	if s := p.Stats(); s.Dials != before.Dials || s.Open != conns {
		t.Errorf("%d dials, %d open; want none, and all %d", s.Dials-before.Dials, s.Open, conns)
	}
	pings, err := look.Info(t.Context(), "commandstats").Result()
	if err != nil || !strings.Contains(pings, "cmdstat_ping:calls=") {
		t.Errorf("nothing was asked, the test has lost its point: %v\n%s", err, pings)
	}
}

// The same with Conns that come and go: whether one was closed is found out by looking through what
// is idle.
func TestManyConnsAndSweepsDoNotHoldEachOtherUp(t *testing.T) {
	const workers, rounds = 16, 100
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 2 * workers, KeepAlive: 5 * time.Millisecond, EvictionInterval: 10 * time.Millisecond,
	})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				c := single(t, p).Conn()
				if err := errors.Join(c.Ping(t.Context()).Err(), c.Ping(t.Context()).Err(), c.Close()); err != nil {
					t.Error(err)
				}
				if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left := p.Holders(); len(left) != 0 {
		t.Errorf("%d are held, all were closed", len(left))
	}
	if s := p.Stats(); s.Open > 2*workers || s.AcquireTimeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// A Conn that was closed counts as in use until the pool has looked for it, and is no demand
// afterwards: what Conns alone have needed goes as everything else.
func TestConnectionsOfClosedConnsAreEvicted(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 20, MaxIdleTime: 100 * time.Millisecond, EvictionInterval: 10 * time.Millisecond,
	})
	conns := make([]*redis.Conn, 8)
	for i := range conns {
		conns[i] = single(t, p).Conn()
		if err := conns[i].Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all evicted", func() bool { return p.Stats().Open == 0 })
	if s := p.Stats(); s.Evicted[poolkeeper.EvictedIdle] != uint64(len(conns)) {
		t.Errorf("%+v", s.Evicted)
	}
}

// Light traffic under LIFO uses one connection, and so finds it in the processor's caches.
func TestCallersGetTheConnectionUsedLast(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 20, KeepAlive: poolkeeper.Off, EvictionInterval: 10 * time.Millisecond, MaxIdleTime: time.Minute,
	})
	together(t, look, p.Client(), 8)
	used := map[int64]bool{}
	for range 100 {
		id, err := p.Client().Do(t.Context(), "client", "id").Int64()
		if err != nil {
			t.Fatal(err)
		}
		used[id] = true
	}
	if len(used) != 1 {
		t.Errorf("one caller has used %d of 8 connections", len(used))
	}
}

func TestMinIdleIsFilledAndKept(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p"},
		MaxOpen: 20, MinIdle: 5, MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	eventually(t, "MinIdle is filled", func() bool { return p.Stats().Idle == 5 })
	if d := p.Stats().Dials; d != 6 {
		t.Errorf("%d dials, want 5 and the health check's", d)
	}
	together(t, look, p.Client(), 15)
	eventually(t, "the pool is back at MinIdle", func() bool { s := p.Stats(); return s.Open == 5 && s.Idle == 5 })
	if n := clients(t, look)["p"]; n != 6 {
		t.Errorf("the server sees %d connections, want 5 and the health check's", n)
	}
	// Two in use: MinIdle are idle beside them.
	conns := []*redis.Conn{single(t, p).Conn(), single(t, p).Conn()}
	for _, c := range conns {
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "MinIdle beside those in use", func() bool { s := p.Stats(); return s.InUse == 2 && s.Idle == 5 })
	for _, c := range conns {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The server closes all: the pool fills up again when it is used.
	if err := look.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "MinIdle after the server closed all", func() bool {
		if err := p.Client().Ping(t.Context()).Err(); err != nil {
			t.Errorf("PING: %v", err)
		}
		s := p.Stats()
		return s.Idle >= 5 && s.Evicted[poolkeeper.EvictedDead] >= 5
	})
}

func TestPipelinesRunOnTheOnePoolThatIsEvicted(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 30, MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	look := admin(t, srv.Addr())
	var wg sync.WaitGroup
	for range 25 {
		wg.Go(func() {
			_, err := p.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.BLPop(t.Context(), 0, "queue")
				return nil
			})
			if err != nil {
				t.Errorf("pipeline: %v", err)
			}
		})
	}
	eventually(t, "25 pipelines wait", func() bool { return blocked(t, look) == 25 })
	if err := look.RPush(t.Context(), "queue", make([]any, 25)...).Err(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if s := p.Stats(); s.Open != 25 {
		t.Fatalf("%d open after 25 pipelines at once", s.Open)
	}
	if native := single(t, p).PoolStats(); native.PipelineStats != nil {
		t.Fatal("go-redis has a second pool for pipelines, which nobody evicts")
	}
	eventually(t, "they are evicted", func() bool { return p.Stats().Open == 0 })
}

func TestLifetimeEndsQuietlyUnderTraffic(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 20, MinIdle: 3, MaxLifetime: 400 * time.Millisecond, LifetimeJitter: 0.5,
		EvictionInterval: 20 * time.Millisecond,
	})
	load := lightTraffic(t, p.Client(), 4)
	eventually(t, "20 connections have reached their lifetime", func() bool {
		return p.Stats().Evicted[poolkeeper.EvictedLifetime] >= 20
	})
	load.end()
	if load.failed.Load() > 0 {
		t.Errorf("%d commands failed", load.failed.Load())
	}
	if s := p.Stats(); s.Evicted[poolkeeper.EvictedDead] != 0 {
		t.Errorf("%d counted as dead", s.Evicted[poolkeeper.EvictedDead])
	}
}

func TestLifetimeEndsWithoutTraffic(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 20, MinIdle: 5, MaxLifetime: 200 * time.Millisecond,
		EvictionInterval: 20 * time.Millisecond,
	})
	eventually(t, "idle connections are renewed", func() bool {
		s := p.Stats()
		return s.Evicted[poolkeeper.EvictedLifetime] >= 10 && s.Idle == 5
	})
}

func TestKeepAliveReachesTheServerAndFindsTheDead(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Redis(t, "--timeout", "1") // the server closes what is silent for a second
	look := admin(t, srv.Addr())
	for _, test := range []struct {
		name      string
		keepAlive time.Duration
		survive   bool
	}{{"off", poolkeeper.Off, false}, {"on", 200 * time.Millisecond, true}} {
		t.Run(test.name, func(t *testing.T) {
			p := started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: test.name},
				MaxOpen: 20, KeepAlive: test.keepAlive, MaxIdleTime: poolkeeper.Off, EvictionInterval: 50 * time.Millisecond,
			})
			together(t, look, p.Client(), 6)
			begun := time.Now()
			eventually(t, "three seconds of silence, or all are closed", func() bool {
				return time.Since(begun) > 3*time.Second || clients(t, look)[test.name] == 0
			})
			if n := clients(t, look)[test.name]; test.survive && n < 6 {
				t.Errorf("the server has %d of 6 left", n)
			} else if !test.survive && n != 0 {
				t.Errorf("the server has %d left: it was expected to close them, or the test has lost its point", n)
			}
		})
	}
}

func TestDeadIdleConnectionsAreFoundByKeepAlive(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p"},
		MaxOpen: 20, MinIdle: 4, KeepAlive: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
	})
	eventually(t, "MinIdle", func() bool { return p.Stats().Idle == 4 })
	if err := look.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	// Without a single command of a caller's.
	eventually(t, "the dead ones are replaced", func() bool {
		s := p.Stats()
		return s.Evicted[poolkeeper.EvictedDead] >= 4 && s.Idle == 4 && clients(t, look)["p"] >= 4
	})
}

func TestEvictionOffClosesNothing(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{
		URL: srv.URL(), MaxOpen: 30, MaxIdleTime: poolkeeper.Off, KeepAlive: poolkeeper.Off, EvictionInterval: 10 * time.Millisecond,
	})
	together(t, admin(t, srv.Addr()), p.Client(), 20)
	load := lightTraffic(t, p.Client(), 1)
	eventually(t, "some traffic", func() bool { return load.done.Load() > 100 })
	load.end()
	if s := p.Stats(); s.Open != 20 || s.Idle != 20 {
		t.Fatalf("%d open, %d idle; want all 20", s.Open, s.Idle)
	}
}
