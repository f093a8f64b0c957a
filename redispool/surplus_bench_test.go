package redispool_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/chart"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// place is where a burst happens: each node with a raw client to look at it, and a key that lives
// there.
type place struct {
	looks []*redis.Client
	keys  []string
	addrs []string // to begin with
	many  bool     // a Cluster
}

func oneNode(tb testing.TB) place {
	tb.Helper()
	srv := testserver.Redis(tb)
	return place{looks: []*redis.Client{admin(tb, srv.Addr())}, keys: []string{"a"}, addrs: []string{srv.Addr()}}
}

func threeNodes(tb testing.TB) place {
	tb.Helper()
	k := newCluster(tb, 3, 0)
	return place{
		looks: k.looks, keys: []string{"{b}", "{c}", "{a}"}, addrs: []string{k.nodes[0].Addr()}, many: true, // slots 3300, 7365, 15495
	}
}

// burst has n commands wait on each node at the same time, so that n connections to it are opened.
func (w place) burst(tb testing.TB, c redis.UniversalClient, n int) {
	tb.Helper()
	ctx := within(tb, patience)
	items := make([]any, n)
	for i := range items {
		items[i] = i
	}
	var wg sync.WaitGroup
	for _, key := range w.keys {
		for range n {
			wg.Go(func() {
				if err := c.BLPop(ctx, 0, key+"queue").Err(); err != nil {
					tb.Errorf("BLPOP: %v", err)
				}
			})
		}
	}
	for i, look := range w.looks {
		eventually(tb, strconv.Itoa(n)+" commands wait", func() bool { return blocked(tb, look) == n })
		if err := look.RPush(ctx, w.keys[i]+"queue", items...).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	wg.Wait()
}

// open counts connections by name, as the servers see them.
func (w place) open(tb testing.TB) map[string]int {
	tb.Helper()
	sum := map[string]int{}
	for _, look := range w.looks {
		for name, n := range clients(tb, look) {
			sum[name] += n
		}
	}
	return sum
}

// silence returns for how many seconds each connection of that name has been silent, by node and
// id. The commands given are those of which one must have been its last; none: whichever.
func (w place) silence(tb testing.TB, name string, last ...string) map[string]int {
	tb.Helper()
	out := map[string]int{}
	for i, look := range w.looks {
		list, err := look.ClientList(within(tb, patience)).Result()
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(list) {
			fields := map[string]string{}
			for field := range strings.FieldsSeq(line) {
				key, value, _ := strings.Cut(field, "=")
				fields[key] = value
			}
			if fields["name"] != name || len(last) > 0 && !slices.Contains(last, fields["cmd"]) {
				continue
			}
			seconds, err := strconv.Atoi(fields["idle"])
			if err != nil {
				tb.Fatal(err)
			}
			out[strconv.Itoa(i)+"/"+fields["id"]] = seconds
		}
	}
	return out
}

// carriers are the connections of that name that have carried traffic, and not a check.
func (w place) carriers(tb testing.TB, name string) map[string]int {
	tb.Helper()
	return w.silence(tb, name, "incr", "blpop")
}

// oldest returns for how many seconds the one of carriers that was silent for longest, and is open
// still, has been silent.
func (w place) oldest(tb testing.TB, name string, carriers map[string]int) int {
	tb.Helper()
	longest := 0
	for id, seconds := range w.silence(tb, name) {
		if _, carried := carriers[id]; carried {
			longest = max(longest, seconds)
		}
	}
	return longest
}

// surplus is one run of the scenario of go-redis#3575: a burst, and then light traffic.
type surplus struct {
	burst, callers, minIdle int // of each node
	maxIdle, span           time.Duration
}

// contender is one of the two clients, and what it has been through.
type contender struct {
	name     string
	client   redis.UniversalClient
	dials    func() uint64
	counts   chart.Series
	load     *traffic
	dialed   uint64         // before the light traffic
	carriers map[string]int // connections that the burst has opened
}

func (s surplus) contenders(tb testing.TB, w place) [2]*contender {
	tb.Helper()
	var dials atomic.Uint64
	dialer := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	raw := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: w.addrs, IsClusterMode: w.many, ClientName: "raw", PoolSize: s.burst + 50,
		MinIdleConns: s.minIdle, ConnMaxIdleTime: s.maxIdle, Dialer: dialer,
	})
	tb.Cleanup(func() {
		if err := raw.Close(); err != nil {
			tb.Error(err)
		}
	})
	p := started(tb, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: w.addrs, IsClusterMode: w.many, ClientName: "managed"},
		MaxOpen: s.burst + 50, MinIdle: s.minIdle, MaxIdleTime: s.maxIdle,
		KeepAlive: s.maxIdle / 2,
	})
	return [2]*contender{
		{name: "raw", client: raw, dials: dials.Load},
		{name: "managed", client: p.Client(), dials: func() uint64 { return p.Stats().Dials }},
	}
}

// run looks at both at the same time, from the end of the burst on.
func (s surplus) run(tb testing.TB, w place) [2]*contender {
	tb.Helper()
	both := s.contenders(tb, w)
	for _, c := range both {
		w.burst(tb, c.client, s.burst)
		c.counts.Name, c.dialed, c.carriers = c.name, c.dials(), w.carriers(tb, c.name)
	}
	begun := time.Now()
	for _, c := range both {
		c.load = lightTraffic(tb, c.client, s.callers*len(w.keys), w.keys...)
	}
	tick := time.NewTicker(s.span / 100)
	defer tick.Stop()
	for x := time.Duration(0); x < s.span; <-tick.C {
		x = time.Since(begun)
		open := w.open(tb)
		for _, c := range both {
			c.counts.Points = append(c.counts.Points, chart.Point{X: float64(x.Milliseconds()) / 1000, Y: float64(open[c.name])})
		}
	}
	return both
}

type scenario struct {
	name  string
	burst int
	title string
	at    func(testing.TB) place
}

// BenchmarkSurplus shows what becomes of the connections that a burst has opened, raw beside
// managed. It reports those that the servers see in the end, the check's included, how long the one
// used last longest ago has been silent, commands failed, and dials since the burst.
func BenchmarkSurplus(b *testing.B) {
	s := surplus{burst: 100, callers: 3, minIdle: 2, maxIdle: 300 * time.Millisecond, span: time.Second}
	scenarios := []scenario{{"one-node-100", 100, "100", oneNode}}
	if testkit.Measuring() {
		s.maxIdle, s.span = 2*time.Second, 8*time.Second
		scenarios = append(scenarios, scenario{"one-node-1000", 1000, "1,000", oneNode},
			scenario{"cluster-3x100", 100, "100 on each of a Cluster's 3 nodes", threeNodes})
	}
	for _, x := range scenarios {
		b.Run(x.name, func(b *testing.B) {
			s.burst = x.burst
			for b.Loop() {
				w := x.at(b)
				both := s.run(b, w)
				for _, c := range both {
					open := c.counts.Points[len(c.counts.Points)-1].Y
					b.ReportMetric(open, c.name+"-open")
					b.ReportMetric(float64(w.oldest(b, c.name, c.carriers)), c.name+"-silent-s")
					b.ReportMetric(float64(c.dials()-c.dialed), c.name+"-dials")
					c.load.end()
					b.ReportMetric(float64(c.load.failed.Load()), c.name+"-failed")
				}
				if testkit.Measuring() {
					draw(b, "surplus-"+x.name, chart.Chart{
						Title: fmt.Sprintf("Connections after a burst of %s, with MaxIdleTime %s", x.title, s.maxIdle),
						X:     "seconds since the burst, light traffic", Y: "connections, as the server counts them",
						Series: []chart.Series{both[0].counts, both[1].counts},
					})
				}
			}
			b.ReportMetric(0, "ns/op") // the scenario's length: it says nothing
		})
	}
}

// draw writes a chart to the directory that testkit.MeasureEnv names.
func draw(tb testing.TB, name string, c chart.Chart) {
	tb.Helper()
	var out strings.Builder
	if err := c.WriteSVG(&out); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(os.Getenv(testkit.MeasureEnv), name+".svg"), []byte(out.String()), 0o644); err != nil {
		tb.Fatal(err)
	}
}
