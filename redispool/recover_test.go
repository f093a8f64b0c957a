package redispool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// condemnations are the log's lines about a generation thrown away for this reason.
func condemnations(l *testkit.Log, because string) []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, "connections are replaced") && strings.Contains(line, because) {
			out = append(out, line)
		}
	}
	return out
}

const (
	andRefuses = "they break, and the server refuses new ones"
	andAnswers = "they break, and the server answers on new ones only"
)

// Another machine answers at the address now. It knows nothing of the connections to its
// predecessor: each breaks when it is used, and none looks broken before. On its own go-redis has
// callers find out one connection after the other.
func TestGenerationOfAReplacedMachineIsLeftTogether(t *testing.T) {
	const conns = 100
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	failures := func(c redis.UniversalClient, n int) (failed int) {
		t.Helper()
		for range n {
			if err := c.Incr(t.Context(), "n").Err(); err != nil {
				failed++
			}
		}
		return failed
	}

	way := testkit.NewProxy(t, srv.Addr())
	raw := rawClient(t, &redis.Options{Addr: way.Addr(), PoolSize: conns, MaxRetries: -1})
	together(t, look, raw, conns)
	way.ReplaceMachine()
	if n := failures(raw, 2*conns); n != conns {
		t.Errorf("raw: %d failures for %d connections; the comparison has lost its point", n, conns)
	}

	way = testkit.NewProxy(t, srv.Addr())
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{way.Addr()}, MaxRetries: -1}, MaxOpen: conns, Logger: out.Logger(),
		KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off,
	})
	together(t, look, p.Client(), conns)
	way.ReplaceMachine()
	if n := failures(p.Client(), 1); n != 1 {
		t.Error("the first command, without retries, found a live connection")
	}
	eventually(t, "the generation is condemned, and closed", func() bool {
		return len(condemnations(&out, andAnswers)) == 1 && p.Stats().Evicted["dead"] == conns
	})
	dials := p.Stats().Dials
	if n := failures(p.Client(), 2*conns); n != 0 {
		t.Errorf("%d failures more, without retries", n)
	}
	if n := p.Stats().Dials - dials; n > 1 {
		t.Errorf("%d dials for one caller", n)
	}
	if n := len(condemnations(&out, "")); n != 1 {
		t.Errorf("%d generations condemned:\n%s", n, out.String())
	}
}

// The same under load, and with retries.
func TestReplacedMachineUnderLoad(t *testing.T) {
	const conns = 100
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	ways := map[string]*testkit.Proxy{"raw": testkit.NewProxy(t, srv.Addr()), "managed": testkit.NewProxy(t, srv.Addr())}
	p := started(t, redispool.Config{URL: "redis://" + ways["managed"].Addr(), MaxOpen: conns})
	results := map[string]outage{}
	for name, c := range map[string]redis.UniversalClient{
		"raw": rawClient(t, &redis.Options{Addr: ways["raw"].Addr(), PoolSize: conns}), "managed": p.Client(),
	} {
		together(t, look, c, conns)
		results[name] = load{workers: callers, pace: 20 * time.Millisecond, limit: 3 * time.Second}.
			endure(t, c, time.Second, ways[name].ReplaceMachine)
		t.Logf("%s: failed / begun later / first success: %s", name, results[name])
	}
	s := p.Stats()
	t.Logf("%d dials, evicted %v", s.Dials, s.Evicted)
	if results["raw"].failed < callers {
		t.Errorf("raw: %s; the comparison has lost its point", results["raw"])
	}
	if got := results["managed"]; got.failed > results["raw"].failed/2 || got.first < 0 {
		t.Errorf("managed: %s; want none, or a few on a slow machine; raw: %s", got, results["raw"])
	}
	// conns before, at most as many after, the check's, and a few of the inspections'.
	if s.Evicted["dead"] < conns || s.Dials > 2*conns+10 {
		t.Errorf("%d of %d connections given up, %d dials", s.Evicted["dead"], conns, s.Dials)
	}
}

// The same, but no server answers at the address for a while.
func TestGenerationOfAServerThatIsGoneIsLeftTogether(t *testing.T) {
	const conns = 40
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	way := testkit.NewProxy(t, srv.Addr())
	var out testkit.Log
	p := started(t, redispool.Config{URL: "redis://" + way.Addr(), MaxOpen: conns, Logger: out.Logger()})
	together(t, look, p.Client(), conns)
	got := endure(t, p.Client(), time.Second, func() {
		way.Refuse(t, true)
		way.ReplaceMachine()
		eventually(t, "the generation is condemned", func() bool { return len(condemnations(&out, andRefuses)) > 0 })
		sleep(300 * time.Millisecond)
		way.Refuse(t, false)
	})
	s := p.Stats()
	t.Logf("failed / begun later / first success: %s; %d dials, evicted %v", got, s.Dials, s.Evicted)
	if got.late > 0 || got.first < 0 {
		t.Errorf("%s; want no failure of a command begun after the server was back", got)
	}
	if lines := condemnations(&out, andRefuses); len(lines) != 1 || s.Evicted["dead"] < conns {
		t.Errorf("condemned %d times, %d connections given up:\n%s", len(lines), s.Evicted["dead"], out.String())
	}
}

// Without traffic nothing is checked out. A sweep closes what is condemned, and does not dial for
// it.
func TestSweepClosesWhatIsCondemnedWithoutADial(t *testing.T) {
	const conns = 15
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1},
		MaxOpen: 2 * conns, MaxIdleTime: poolkeeper.Off, KeepAlive: 500 * time.Millisecond, EvictionInterval: 50 * time.Millisecond,
	})
	together(t, look, p.Client(), conns)
	newest := latestID(t, look)
	do(t, look, "replicaof 127.0.0.1 1")
	if err := p.Client().Incr(t.Context(), "n").Err(); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Fatalf("INCR = %v", err)
	}
	do(t, look, "replicaof no one")
	dials := p.Stats().Dials
	eventually(t, "none but the check's is left", func() bool { return oldConns(t, look, newest) == 1 })
	eventually(t, "the sweep is over", func() bool { return p.Stats().Open == 0 })
	s := p.Stats()
	if s.Dials != dials || s.Evicted["failover"] != conns {
		t.Errorf("%d dials; %+v", s.Dials-dials, s)
	}
}

// A caller may dial for longer than the pool waits for a server that refuses. Its error then says
// that the server refuses. go-redis takes that for a reason to try again, but not the end of the
// time.
func TestEndOfThePoolsPatienceIsARefusal(t *testing.T) {
	var dials atomic.Int64
	p := newPool(t, redispool.Config{
		Options: &redis.UniversalOptions{
			Addrs: []string{"x:1"}, MaxRetries: -1,
			Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
				if dials.Add(1) == 1 {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
				}
				<-ctx.Done() // as while a sentinel is asked
				return nil, ctx.Err()
			},
		},
		AcquireTimeout: patience, DialTimeout: patience,
	})
	err := p.Client().Ping(within(t, patience)).Err()
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("PING = %v", err)
	}
}

// One connection that ends, for reasons of its own, is no reason to throw the others away.
func TestConnectionThatEndsAloneCondemnsNobody(t *testing.T) {
	testkit.Slow(t)
	const conns = 10
	for name, end := range map[string]func(t *testing.T, look *redis.Client, p *redispool.Pool) (ended int){
		"killed in use": func(t *testing.T, look *redis.Client, p *redispool.Pool) int {
			t.Helper()
			result := make(chan error, 1)
			go func() { result <- p.Client().BLPop(within(t, patience), 0, "none").Err() }()
			eventually(t, "it waits", func() bool { return blocked(t, look) == 1 })
			killBlocked(t, look)
			if err := <-result; err == nil {
				t.Error("BLPOP ended well without an item")
			}
			return 1
		},
		"killed idle": func(t *testing.T, look *redis.Client, p *redispool.Pool) int {
			t.Helper()
			do(t, look, fmt.Sprint("client kill id ", latestID(t, look)))
			return 1
		},
		"all idle for too long": func(t *testing.T, look *redis.Client, p *redispool.Pool) int {
			t.Helper()
			do(t, look, "config set timeout 1")
			eventually(t, "the server has closed what was idle", func() bool { return len(pools(t, look)) == 0 })
			do(t, look, "config set timeout 0")
			return conns
		},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				srv, addr, ca := secureRedis(t)
				look := admin(t, srv.Addr())
				var out testkit.Log
				cfg := redispool.Config{
					Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1},
					MaxOpen: conns + 5, KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off, Logger: out.Logger(),
				}
				if secure {
					cfg.Options.Addrs[0], cfg.TLSFiles.CA = addr, ca
				}
				p := started(t, cfg)
				together(t, look, p.Client(), conns)
				before := p.Stats()
				ended := end(t, look, p)
				for range 4 * conns {
					if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
						t.Fatalf("without retries: %v", err)
					}
				}
				sleep(2 * inspection)
				after := p.Stats()
				if got := after.Evicted["dead"] - before.Evicted["dead"]; got > uint64(ended) {
					t.Errorf("%d connections given up, %d had ended", got, ended)
				}
				if got := condemnations(&out, ""); len(got) > 0 {
					t.Errorf("%s", got)
				}
			})
		}
	}
}

// killBlocked kills the connections that wait in a blocking command.
func killBlocked(t *testing.T, look *redis.Client) {
	t.Helper()
	list, err := look.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if strings.Contains(line, " flags=b ") {
			do(t, look, fmt.Sprint("client kill id ", number(t, line, "id=")))
		}
	}
}

// inspection is how long one takes, with the pause after it.
const inspection = 400 * time.Millisecond

// A server that restarts while no caller asks it anything leaves every connection dead. go-redis
// does not look below TLS, so without the pool callers find out one connection after the other.
func TestRestartBehindTLSIsSeenBeforeTheNextCommand(t *testing.T) {
	const conns = 20
	for name, stop := range map[string]func(*testserver.Server, testing.TB){
		"killed": (*testserver.Server).Kill, "shut down": (*testserver.Server).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			srv, addr, ca := secureRedis(t)
			look := admin(t, srv.Addr())
			var out testkit.Log
			p := started(t, redispool.Config{
				Options: &redis.UniversalOptions{Addrs: []string{addr}, MaxRetries: -1, ClientName: "p"}, Logger: out.Logger(),
				MaxOpen: conns, TLSFiles: poolkeeper.TLSFiles{CA: ca}, MaxIdleTime: poolkeeper.Off, KeepAlive: poolkeeper.Off,
			})
			together(t, look, p.Client(), conns)
			stop(srv, t)
			srv.Restart(t)
			dials := p.Stats().Dials
			for range conns {
				if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
					t.Fatalf("without retries: %v", err)
				}
			}
			// go-redis drops three before it dials.
			if got := p.Stats().Dials - dials; got > conns/3+1 {
				t.Errorf("%d dials:\n%s", got, out.String())
			}
		})
	}
}

// Nodes of a Cluster are judged one by one.
func TestNodeThatIsGoneTakesNoConnectionOfAnotherWithIt(t *testing.T) {
	testkit.Slow(t)
	const conns = 6
	k := newCluster(t, 2, 0)
	var out testkit.Log
	options := k.options()
	options.ClientName = "p"
	p := started(t, redispool.Config{
		Options: options, MaxOpen: 2 * conns, KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off, Logger: out.Logger(),
	})
	gone, stays := k.keyAt(t, 0), k.keyAt(t, 1)
	for i, key := range []string{gone, stays} {
		togetherAt(t, k.looks[i], p.Client(), conns, key)
	}
	before := pools(t, k.looks[1])
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(within(t, time.Second), 0, gone).Err() }()
	eventually(t, "one is in use", func() bool { return blocked(t, k.looks[0]) == 1 })
	k.nodes[0].Kill(t)
	if err := <-result; err == nil {
		t.Error("BLPOP ended well without a server")
	}
	// They look closed from here. Either the inspection closes them or the check that the broken
	// one brings about.
	eventually(t, "the generation is given up", func() bool { return p.Stats().Evicted["dead"] >= conns })
	for _, line := range condemnations(&out, "") {
		if !strings.Contains(line, "node="+k.nodes[0].Addr()) {
			t.Error(line)
		}
	}
	k.nodes[0].Restart(t)
	for _, key := range []string{gone, stays} {
		eventually(t, "both nodes serve", func() bool { return p.Client().Incr(t.Context(), key+"n").Err() == nil })
	}
	for range 3 * conns {
		if err := p.Client().Get(t.Context(), stays).Err(); err != redis.Nil { //nolint:errorlint // bare
			t.Errorf("GET = %v", err)
		}
	}
	after := pools(t, k.looks[1])
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("connections of the node that stayed: %v before, %v after", before, after)
	}
}

// Behind Sentinel the inspection asks the sentinels too. A primary that dies takes all its
// connections with it. Writers that may try again see the failover as a delay.
func TestGenerationOfADeadPrimaryIsLeftBehindSentinel(t *testing.T) {
	testkit.Slow(t)
	s := newSentinels(t)
	var out testkit.Log
	p := started(t, redispool.Config{
		URL: s.url("&client_name=p&max_retries=30&min_retry_backoff=100ms&max_retry_backoff=200ms"), MaxOpen: 10,
		MaxIdleTime: poolkeeper.Off, KeepAlive: poolkeeper.Off, Logger: out.Logger(),
	})
	look := admin(t, s.primary.Addr())
	together(t, look, p.Client(), 10)
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(within(t, patience), 0, "later").Err() }()
	eventually(t, "one is in use", func() bool { return blocked(t, look) == 1 })
	s.primary.Kill(t)
	eventually(t, "the generation is condemned", func() bool { return len(condemnations(&out, andRefuses)) > 0 })
	load := lightTraffic(t, p.Client(), 6)
	eventually(t, "traffic on the new primary", func() bool { return load.done.Load() > 50 })
	if err := p.Client().RPush(t.Context(), "later", 1).Err(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Errorf("BLPOP, which go-redis has tried again: %v", err)
	}
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}
	if got := p.Stats().Evicted["dead"]; got < 10 {
		t.Errorf("%d connections given up", got)
	}
}

// The check's failure has to be one of the server's: sentinels that cannot be reached say nothing
// about the primary.
func TestUnreachableSentinelsCondemnNobody(t *testing.T) {
	const conns = 6
	s := newSentinels(t)
	var out testkit.Log
	p := started(t, redispool.Config{
		URL: s.url("&client_name=p&max_retries=-1"), MaxOpen: conns, MaxIdleTime: poolkeeper.Off, KeepAlive: poolkeeper.Off, Logger: out.Logger(),
	})
	look := admin(t, s.primary.Addr())
	together(t, look, p.Client(), conns)
	s.stopSentinels()
	breaksAlone(t, p, look, conns, &out)
}

// A TLS server begins with tickets for later sessions. go-redis takes them for something pushed,
// and waits 50 ms for it to become readable, before the first command on most connections.
func TestDialBehindTLSDoesNotWaitForAPush(t *testing.T) {
	const dials = 20
	_, addr, ca := secureRedis(t)
	trust := x509.NewCertPool()
	read, err := os.ReadFile(ca)
	if err != nil || !trust.AppendCertsFromPEM(read) {
		t.Fatal("no authority", err)
	}
	raw := rawClient(t, &redis.Options{Addr: addr, TLSConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}})
	p := started(t, redispool.Config{URL: "redis://" + addr, TLSFiles: poolkeeper.TLSFiles{CA: ca}, MaxOpen: dials})
	const wait = 50 * time.Millisecond // of go-redis, for a push that does not come
	slow := map[string]int{}           // dials that took as long
	for range dials {                  // in turns
		for name, c := range map[string]*redis.Client{"raw": raw, "managed": single(t, p)} {
			conn := c.EphemeralConn()
			begun := time.Now()
			if err := conn.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if time.Since(begun) >= wait {
				slow[name]++
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	// Both pay for a slow machine. Raw waits on top, at more than every second dial.
	if slow["raw"] <= slow["managed"] {
		t.Errorf("of %d dials each, these took %s or more: %v", dials, wait, slow)
	}
}

// That we cannot open a connection proves nothing about those that are open.
func TestFailureOfOurOwnCondemnsNobody(t *testing.T) {
	const conns = 8
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	var exhausted atomic.Bool
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{
			Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1,
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if exhausted.Load() {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EMFILE}
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		},
		MaxOpen: conns, KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off, Logger: out.Logger(),
	})
	together(t, look, p.Client(), conns)
	exhausted.Store(true)
	breaksAlone(t, p, look, conns, &out)
	exhausted.Store(false)
}

// secureRedis is a server that speaks plain text at its address, and TLS at another. ca is a file
// with its authority.
func secureRedis(tb testing.TB) (srv *testserver.Server, addr, ca string) {
	tb.Helper()
	dir := tb.TempDir()
	authority := testcerts.New(tb)
	cert, key := authority.Leaf(tb, "127.0.0.1")
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		write(tb, path, content)
		return path
	}
	ca = file("ca", authority.PEM)
	addr = freeAddr(tb)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	return testserver.Redis(tb, "--tls-port", port, "--tls-auth-clients", "no", "--tls-ca-cert-file", ca,
		"--tls-cert-file", file("crt", cert), "--tls-key-file", file("key", key)), addr, ca
}

// breaksAlone has one of a pool's connections break while the server cannot be asked, which tells
// nothing of the others.
func breaksAlone(t *testing.T, p *redispool.Pool, look *redis.Client, conns int, out *testkit.Log) {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(within(t, patience), 0, "none").Err() }()
	eventually(t, "it waits", func() bool { return blocked(t, look) == 1 })
	asked := p.Stats().DialErrors
	killBlocked(t, look)
	if err := <-result; err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("BLPOP = %v", err)
	}
	// The second time shows that the first has had no consequence.
	eventually(t, "it has been tried to ask the server twice", func() bool { return p.Stats().DialErrors >= asked+2 })
	for range 3 * conns {
		if err := p.Client().Incr(t.Context(), "n").Err(); err != nil {
			t.Fatalf("the others serve still: %v", err)
		}
	}
	if s := p.Stats(); s.Open != conns-1 || len(condemnations(out, "")) > 0 {
		t.Errorf("%d of %d open:\n%s", s.Open, conns-1, out.String())
	}
}
