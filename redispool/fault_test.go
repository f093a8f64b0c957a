package redispool_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// outage is one fault under load.
type outage struct {
	failed, late int           // commands failed in all; of those begun after the server was back
	first        time.Duration // from then to the first success
}

func (o outage) String() string {
	return fmt.Sprintf("%d / %d / %s", o.failed, o.late, o.first.Round(time.Millisecond))
}

// load is workers that each write at a pace, each write under a context of its own.
type load struct {
	workers     int
	pace, limit time.Duration
}

const callers = 8 // of endure

// endure has callers write every 5 ms, each write under a context of 500 ms.
func endure(tb testing.TB, c redis.UniversalClient, after time.Duration, happens func()) outage {
	tb.Helper()
	return load{workers: callers, pace: 5 * time.Millisecond, limit: 500 * time.Millisecond}.endure(tb, c, after, happens)
}

// endure keeps up the load while happens does its worst and returns when the server is back, and
// for after.
func (l load) endure(tb testing.TB, c redis.UniversalClient, after time.Duration, happens func()) outage {
	tb.Helper()
	type result struct {
		begun, ended time.Time
		err          error
	}
	var mu sync.Mutex
	var results []result
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() {
			tick := time.NewTicker(l.pace)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				ctx, cancel := context.WithTimeout(tb.Context(), l.limit)
				r := result{begun: time.Now()}
				r.err = c.Set(ctx, "key", "value", 0).Err()
				r.ended = time.Now()
				cancel()
				mu.Lock()
				results = append(results, r)
				mu.Unlock()
			}
		})
	}
	sleep(300 * time.Millisecond)
	happens()
	back := time.Now()
	sleep(after)
	close(stop)
	wg.Wait()
	var o outage
	o.first = -1
	for _, r := range results {
		if r.err != nil {
			o.failed++
			if r.begun.After(back) {
				o.late++
			}
		} else if r.begun.After(back) || r.ended.After(back) {
			if d := r.ended.Sub(back); o.first < 0 || d < o.first {
				o.first = d
			}
		}
	}
	return o
}

// sleep is for the length of outages, which nothing can be polled for.
func sleep(d time.Duration) { <-time.After(d) }

func rawClient(tb testing.TB, o *redis.Options) *redis.Client {
	tb.Helper()
	o.ContextTimeoutEnabled = true
	c := redis.NewClient(o)
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Old connections lead nowhere from one moment to the next, without a sign: what a NAT gateway or a
// load balancer does that forgets. On its own go-redis lets callers time out until every connection
// has been tried.
func TestSilentLossIsPaidForOncePerCaller(t *testing.T) {
	testkit.Slow(t)
	const conns = 40
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	ways := map[string]*testkit.Proxy{"raw": testkit.NewProxy(t, srv.Addr()), "managed": testkit.NewProxy(t, srv.Addr())}
	p := started(t, redispool.Config{URL: "redis://" + ways["managed"].Addr(), MaxOpen: conns})
	clients := map[string]redis.UniversalClient{
		"raw":     rawClient(t, &redis.Options{Addr: ways["raw"].Addr(), PoolSize: conns}),
		"managed": p.Client(),
	}
	results := map[string]outage{}
	for name, c := range clients {
		together(t, look, c, conns)
		results[name] = endure(t, c, 2*time.Second, func() { ways[name].BlackHole() })
		t.Logf("%s: failed / begun later / first success: %s", name, results[name])
	}
	if got := results["managed"]; got.failed > 2*callers || got.first < 0 {
		t.Errorf("managed: %s; want at most one failure per caller, or two on a slow machine", got)
	}
	if results["raw"].failed <= 2*callers {
		t.Errorf("raw: %s; the comparison has lost its point", results["raw"])
	}
	if s := p.Stats(); s.Evicted["dead"] < conns-callers {
		t.Errorf("%d of %d connections given up", s.Evicted["dead"], conns)
	}
}

// The name stands for another server now, and old connections lead to what has become its replica.
func TestDemotedServerIsLeftAtOnce(t *testing.T) {
	testkit.Slow(t)
	const conns = 40
	results := map[string]outage{}
	for _, name := range []string{"raw", "managed", "managed without retries"} {
		old, now := testserver.Redis(t), testserver.Redis(t)
		way := testkit.NewProxy(t, old.Addr())
		retries := 0
		if name == "managed without retries" {
			retries = -1
		}
		var c redis.UniversalClient = rawClient(t, &redis.Options{Addr: way.Addr(), PoolSize: conns})
		if name != "raw" {
			c = started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: retries}, MaxOpen: conns,
			}).Client()
		}
		look := admin(t, old.Addr())
		together(t, look, c, conns)
		results[name] = endure(t, c, time.Second, func() {
			way.Point(now.Addr())
			if err := look.ReplicaOf(t.Context(), "127.0.0.1", now.Port()).Err(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: failed / begun later / first success: %s", name, results[name])
	}
	if got := results["managed"]; got.failed > 0 || got.first < 0 {
		t.Errorf("managed: %s; want no failure", got)
	}
	if got := results["managed without retries"]; got.failed > 2*callers {
		t.Errorf("managed without retries: %s; want at most one failure per caller, or two on a slow machine", got)
	}
	if results["raw"].failed == 0 {
		t.Errorf("raw: %s; the comparison has lost its point", results["raw"])
	}
}

// The same for pipelines that read before they write, and for transactions: the first answer is a
// good one, and go-redis keeps the connection.
func TestPipelineThatEndsReadOnlyHasTheServerLeft(t *testing.T) {
	for name, run := range map[string]func(redis.UniversalClient) pipelined{
		"pipeline":    func(c redis.UniversalClient) pipelined { return c.Pipelined },
		"transaction": func(c redis.UniversalClient) pipelined { return c.TxPipelined },
	} {
		t.Run(name, func(t *testing.T) {
			old, now := testserver.Redis(t), testserver.Redis(t)
			way := testkit.NewProxy(t, old.Addr())
			p := started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: -1}, MaxOpen: 10, KeepAlive: poolkeeper.Off,
			})
			look := admin(t, old.Addr())
			together(t, look, p.Client(), 10)
			way.Point(now.Addr())
			if err := look.ReplicaOf(t.Context(), "127.0.0.1", now.Port()).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the write goes through", func() bool {
				_, err := run(p.Client())(t.Context(), func(pipe redis.Pipeliner) error {
					pipe.Exists(t.Context(), "a")
					pipe.Set(t.Context(), "a", 1, 0)
					return nil
				})
				return err == nil
			})
			if s := p.Stats(); s.Evicted["failover"] == 0 {
				t.Errorf("evicted %v", s.Evicted)
			}
		})
	}
}

type pipelined = func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)

func TestRepliesThatSayWrongServerEndAGeneration(t *testing.T) {
	for reply, ends := range map[string]bool{
		"READONLY You can't write against a read only replica.": true, "MASTERDOWN Link with MASTER is down": true,
		"LOADING Redis is loading the dataset in memory": true, "ERR no such thing": false, "WRONGTYPE Operation": false,
	} {
		m := mini(t)
		p := started(t, redispool.Config{URL: "redis://" + m.Addr() + "?max_retries=-1", MaxOpen: 5, KeepAlive: poolkeeper.Off})
		held := make([]*redis.Conn, 4)
		for i := range held {
			held[i] = single(t, p).Conn()
			if err := held[i].Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range held {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		m.SetError(reply)
		if err := p.Client().Get(t.Context(), "a").Err(); err == nil || !strings.Contains(err.Error(), reply) {
			t.Errorf("GET = %v", err)
		}
		m.SetError("")
		for range 5 {
			if err := p.Client().Set(t.Context(), "a", 1, 0).Err(); err != nil {
				t.Error(err)
			}
		}
		replaced := func() uint64 { return p.Stats().Evicted["failover"] }
		if ends {
			eventually(t, reply+": all are replaced", func() bool { return replaced() >= 4 })
		} else if n := replaced(); n > 0 {
			t.Errorf("%s: %d connections replaced", reply, n)
		}
	}
}

// While the server refuses, callers are held within their own contexts, and are served as soon as
// it is back.
func TestRestartIsOverWhenTheServerIsBack(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: callers})
	together(t, admin(t, srv.Addr()), p.Client(), callers)
	got := endure(t, p.Client(), time.Second, func() {
		srv.Kill(t)
		sleep(1500 * time.Millisecond)
		srv.Restart(t)
	})
	t.Logf("failed / begun later / first success: %s", got)
	if got.failed > 90 || got.late > callers || got.first < 0 {
		t.Errorf("%s; want at most 90 failures, %d of them of commands begun after the restart", got, callers)
	}
}

// A server that is slow is not a dead network: nothing is cut, and no command is carried out twice.
func TestSlowServerIsNotTakenForALostOne(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, MaxRetries: -1}, MaxOpen: 20, ReadTimeout: 10 * time.Second,
	})
	together(t, look, p.Client(), 20)
	var wg sync.WaitGroup
	dials := p.Stats().Dials
	srv.Freeze(t)
	for range 5 { // these wait for it
		wg.Go(func() {
			if err := p.Client().Incr(within(t, patience), "n").Err(); err != nil {
				t.Errorf("a patient caller: %v", err)
			}
		})
	}
	impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for range 3 { // and these give up, which brings about the inspection
		wg.Go(func() { _ = p.Client().Get(impatient, "n").Err() })
	}
	sleep(700 * time.Millisecond)
	srv.Thaw(t)
	wg.Wait()
	eventually(t, "an inspection has been made", func() bool { return p.Stats().Dials > dials })
	sleep(200 * time.Millisecond) // for what it would do
	if n, err := look.Get(t.Context(), "n").Int(); n != 5 || err != nil {
		t.Errorf("counted %d times, want 5 (%v)", n, err)
	}
	if s := p.Stats(); s.Evicted["dead"] > 4 {
		t.Errorf("%d connections given up, for three callers who gave up", s.Evicted["dead"])
	}
}

// One caller pays for a silent loss, also when no other caller waits for an answer in vain: the
// pool asks idle connections.
func TestOneCallerFindsASilentLossForAll(t *testing.T) {
	const conns = 20
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	way := testkit.NewProxy(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: -1}, MaxOpen: conns,
		KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off,
	})
	together(t, look, p.Client(), conns)
	way.BlackHole()
	if err := p.Client().Incr(within(t, 200*time.Millisecond), "n").Err(); err == nil {
		t.Error("answered through a black hole")
	}
	eventually(t, "all are given up", func() bool { return p.Stats().Evicted["dead"] >= conns })
	for range 2 * conns {
		if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
			t.Errorf("without retries: %v", err)
		}
	}
}
