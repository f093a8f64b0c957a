package redispool_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// proxy stands for the network and the name service: it forwards to whatever the name stands for now, and can swallow
// what old connections send, without a sign of it.
type proxy struct {
	addr string

	mu       sync.Mutex   // guards the following
	listener net.Listener // nil while connections are refused
	target   string
	silent   bool // connections made now are never answered
	answers  int  // if not 0, silent begins after so many connections more
	conns    map[*forwarded]struct{}
	done     bool
	running  sync.WaitGroup
}

type forwarded struct {
	client, server net.Conn
	dead           atomic.Bool // swallows
	unknown        atomic.Bool // is reset at the next byte from the client
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), listener: l, target: target, conns: map[*forwarded]struct{}{}}
	p.running.Go(func() { p.accept(l) })
	tb.Cleanup(func() {
		p.mu.Lock()
		if p.listener != nil {
			_ = p.listener.Close()
		}
		p.done = true
		for f := range p.conns {
			f.close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (f *forwarded) close() {
	_ = f.client.Close()
	if f.server != nil {
		_ = f.server.Close()
	}
}

func (p *proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		f := &forwarded{client: client}
		f.dead.Store(p.silent)
		if p.answers > 0 {
			p.answers--
			p.silent = p.answers == 0
		}
		target := p.target
		p.mu.Unlock()
		if f.server, err = net.DialTimeout("tcp", target, time.Second); err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.done {
			f.close()
		}
		p.conns[f] = struct{}{}
		p.mu.Unlock()
		p.running.Go(func() { p.forward(f, f.client, f.server) })
		p.running.Go(func() { p.forward(f, f.server, f.client) })
	}
}

func (p *proxy) forward(f *forwarded, from, to net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		if f.unknown.Load() && from == f.client {
			if c, ok := f.client.(*net.TCPConn); ok {
				_ = c.SetLinger(0) // Close says RST
			}
			break
		}
		if f.dead.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	p.mu.Lock()
	delete(p.conns, f)
	p.mu.Unlock()
	if !f.dead.Load() || from == f.client {
		f.close()
	}
}

// blackHole lets the connections that there are lead nowhere; with silent so do those made from now on.
func (p *proxy) blackHole(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	for f := range p.conns {
		f.dead.Store(true)
	}
}

// replaceMachine has another machine take over the address: the connections that there are break when they are used.
func (p *proxy) replaceMachine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range p.conns {
		f.unknown.Store(true)
		f.dead.Store(true)
	}
}

// refuse has new connections be refused, or no more.
func (p *proxy) refuse(tb testing.TB, yes bool) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		_ = p.listener.Close()
		p.listener = nil
		return
	}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", p.addr)
	if err != nil {
		tb.Fatal(err)
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
}

// only has n connections more be answered, and those after them never.
func (p *proxy) only(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = n
}

// point has new connections lead to target, and be answered.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.silent = target, false
}

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

// endure keeps up the load while happens does its worst and returns when the server is back, and for after.
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

// Old connections lead nowhere from one moment to the next, without a sign: what a NAT gateway or a load balancer does
// that forgets. On its own go-redis lets callers time out until every connection has been tried.
func TestSilentLossIsPaidForOncePerCaller(t *testing.T) {
	const conns = 40
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	ways := map[string]*proxy{"raw": newProxy(t, srv.Addr()), "managed": newProxy(t, srv.Addr())}
	p := started(t, redispool.Config{URL: "redis://" + ways["managed"].addr, MaxOpen: conns})
	clients := map[string]redis.UniversalClient{
		"raw":     rawClient(t, &redis.Options{Addr: ways["raw"].addr, PoolSize: conns}),
		"managed": p.Client(),
	}
	results := map[string]outage{}
	for name, c := range clients {
		together(t, look, c, conns)
		results[name] = endure(t, c, 2*time.Second, func() { ways[name].blackHole(false) })
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
	const conns = 40
	results := map[string]outage{}
	for _, name := range []string{"raw", "managed", "managed without retries"} {
		old, now := testserver.Redis(t), testserver.Redis(t)
		way := newProxy(t, old.Addr())
		retries := 0
		if name == "managed without retries" {
			retries = -1
		}
		var c redis.UniversalClient = rawClient(t, &redis.Options{Addr: way.addr, PoolSize: conns})
		if name != "raw" {
			c = started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{way.addr}, MaxRetries: retries}, MaxOpen: conns,
			}).Client()
		}
		look := admin(t, old.Addr())
		together(t, look, c, conns)
		results[name] = endure(t, c, time.Second, func() {
			way.point(now.Addr())
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

// The same for pipelines that read before they write, and for transactions: the first answer is a good one, and go-redis
// keeps the connection.
func TestPipelineThatEndsReadOnlyHasTheServerLeft(t *testing.T) {
	for name, run := range map[string]func(redis.UniversalClient) pipelined{
		"pipeline":    func(c redis.UniversalClient) pipelined { return c.Pipelined },
		"transaction": func(c redis.UniversalClient) pipelined { return c.TxPipelined },
	} {
		t.Run(name, func(t *testing.T) {
			old, now := testserver.Redis(t), testserver.Redis(t)
			way := newProxy(t, old.Addr())
			p := started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{way.addr}, MaxRetries: -1}, MaxOpen: 10, KeepAlive: redispool.Off,
			})
			look := admin(t, old.Addr())
			together(t, look, p.Client(), 10)
			way.point(now.Addr())
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
		p := started(t, redispool.Config{URL: "redis://" + m.Addr() + "?max_retries=-1", MaxOpen: 5, KeepAlive: redispool.Off})
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
		if n := p.Stats().Evicted["failover"]; (n >= 4) != ends {
			t.Errorf("%s: %d connections replaced", reply, n)
		}
	}
}

// While the server refuses, callers are held within their own contexts, and are served as soon as it is back.
func TestRestartIsOverWhenTheServerIsBack(t *testing.T) {
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
