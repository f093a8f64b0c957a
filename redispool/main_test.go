package redispool_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(testserver.Main(m))
}

// A typo in a signature would lose a feature without a word.
var (
	_ lifecycle.Component        = (*redispool.Pool)(nil)
	_ lifecycle.Drainer          = (*redispool.Pool)(nil)
	_ lifecycle.Aborter          = (*redispool.Pool)(nil)
	_ lifecycle.Checker          = (*redispool.Pool)(nil)
	_ lifecycle.StatsProvider    = (*redispool.Pool)(nil)
	_ lifecycle.HolderLister     = (*redispool.Pool)(nil)
	_ lifecycle.ObserverSetter   = (*redispool.Pool)(nil)
	_ lifecycle.SettingsProvider = (*redispool.Pool)(nil)
	_ lifecycle.NameSetter       = (*redispool.Pool)(nil)
)

// quiet silences go-redis' own log, which is one for the whole process.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Short names for what the tests of this package say most.
var (
	eventually = testkit.Eventually
	within     = testkit.Within
	silent     = testkit.Silent
	write      = testkit.Replace
	freeAddr   = testkit.FreeAddr

	subscribed    = pooltest.Subscribed
	hasExpiries   = pooltest.HasExpiries
	hasAllReasons = pooltest.HasAllReasons
)

const patience = testkit.Patience

// withIsolation makes newPool give each Cluster reads from replicas and Isolation. Tests that run in
// parallel must not set it.
var withIsolation bool

// newPool makes a pool that the test stops at its end.
func newPool(tb testing.TB, cfg redispool.Config) *redispool.Pool {
	tb.Helper()
	if o := cfg.Options; withIsolation && o != nil && o.IsClusterMode {
		changed := *o
		changed.ReadOnly = true
		cfg.Options, cfg.Isolation = &changed, isolating()
	}
	if url := cfg.URL; withIsolation && strings.Contains(url, "+cluster:") {
		parameter := "?read_only=true"
		if strings.Contains(url, "?") {
			parameter = "&read_only=true"
		}
		cfg.URL, cfg.Isolation = url+parameter, isolating()
	}
	if cfg.Logger == nil {
		cfg.Logger = silent()
	}
	p, err := redispool.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Abort(); err != nil {
			tb.Logf("abort at the end of the test: %v", err)
		}
	})
	return p
}

func started(tb testing.TB, cfg redispool.Config) *redispool.Pool {
	tb.Helper()
	p := newPool(tb, cfg)
	if err := p.Start(within(tb, patience)); err != nil {
		tb.Fatal(err)
	}
	return p
}

// single returns the native client of a pool that is no Cluster.
func single(tb testing.TB, p *redispool.Pool) *redis.Client {
	tb.Helper()
	c, ok := p.Client().(*redis.Client)
	if !ok {
		tb.Fatalf("Client is a %T", p.Client())
	}
	return c
}

// admin is a raw client for looking at the server.
func admin(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1, ClientName: "admin", DisableIdentity: true, Protocol: 2})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// clients counts the server's connections by name, seen by the server; the one that asks is not
// counted.
func clients(tb testing.TB, a *redis.Client) map[string]int {
	tb.Helper()
	list, err := a.ClientList(within(tb, patience)).Result()
	if err != nil {
		tb.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(list) {
		for field := range strings.FieldsSeq(line) {
			if name, ok := strings.CutPrefix(field, "name="); ok && name != "admin" {
				counts[name]++
			}
		}
	}
	return counts
}

// together has n commands wait on the server at the same time, so that the pool opens n
// connections.
func together(tb testing.TB, look *redis.Client, c redis.UniversalClient, n int) {
	tb.Helper()
	togetherAt(tb, look, c, n, "queue")
}

// togetherAt is together at a key, and so at a node of a Cluster, which is the one that look is
// for.
func togetherAt(tb testing.TB, look *redis.Client, c redis.UniversalClient, n int, key string) {
	tb.Helper()
	ctx := within(tb, patience)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := c.BLPop(ctx, 0, key).Err(); err != nil {
				tb.Errorf("BLPOP: %v", err)
			}
		})
	}
	eventually(tb, strconv.Itoa(n)+" commands wait", func() bool { return blocked(tb, look) == n })
	items := make([]any, n)
	for i := range items {
		items[i] = i
	}
	if err := look.RPush(ctx, key, items...).Err(); err != nil {
		tb.Fatal(err)
	}
	wg.Wait()
}

// blocked is how many clients wait in a blocking command, seen by the server.
func blocked(tb testing.TB, look *redis.Client) int {
	tb.Helper()
	info, err := look.Info(within(tb, patience), "clients").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "blocked_clients:"); ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatalf("no blocked_clients in %q", info)
	return 0
}

// mini starts a miniredis, as users' tests do.
func mini(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	return miniredis.RunT(tb)
}

// seen is an Observer that remembers.
type seen struct {
	mu        sync.Mutex // guards the following
	errs      []error
	successes int
}

func (s *seen) Observe(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.successes++
	} else {
		s.errs = append(s.errs, err)
	}
}

func (s *seen) counts() (failures, successes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.errs), s.successes
}

var _ poolkeeper.Observer = (*seen)(nil)
