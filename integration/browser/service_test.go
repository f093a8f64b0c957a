package browser_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// service is a small service on real servers, with a status page.
type service struct {
	reg      *lifecycle.Registry
	postgres *testserver.Server
	orders   *sqlpool.Postgres
	cache    *redispool.Pool
	ops      *lifecycle.Server
	url      string // of the page
}

// leakThreshold is short, so that a leak is seen soon.
const leakThreshold = 500 * time.Millisecond

// newService starts a service whose page samples often, so that its charts fill in seconds. It has
// components of the names in more, too.
func newService(t *testing.T, allow func(*http.Request) bool, more ...string) *service {
	t.Helper()
	s := &service{postgres: testserver.Postgres(t)}
	redisServer := testserver.Redis(t)
	log := slog.New(slog.DiscardHandler)
	var err error
	s.orders, err = sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: s.postgres.URL(), MaxOpen: 10, MinIdle: 2, LeakThreshold: leakThreshold, Logger: log,
		AcquireTimeout: time.Second, Start: poolkeeper.StartDegraded,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.cache, err = redispool.New(redispool.Config{URL: redisServer.URL(), MaxOpen: 20, MinIdle: 2, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s.reg = lifecycle.New(lifecycle.Config{
		Logger: log, ShutdownTimeout: 10 * time.Second,
		Health: health.Config{Interval: 200 * time.Millisecond, RetryInterval: 100 * time.Millisecond, FailureThreshold: 2, SuccessThreshold: 1},
	})
	page := statuspage.New(s.reg, statuspage.Config{Name: "orders-api", Allow: allow, Interval: 100 * time.Millisecond, Window: 12 * time.Second})
	mux := http.NewServeMux()
	mux.Handle("/status/", http.StripPrefix("/status", page))
	mux.Handle("/", health.Handler(s.reg.Health()))
	s.ops = lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: mux, ReadHeaderTimeout: time.Second})
	api := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: s.api(), ReadHeaderTimeout: time.Second})

	s.reg.Add("cache", s.cache, lifecycle.WithHealthCheck(health.Check{Impact: health.ImpactDegrading}))
	s.reg.Add("orders", s.orders)
	s.reg.Add("schema", lifecycle.Hooks{OnStart: func(context.Context) error { return nil }}, lifecycle.WithDependencies("orders"))
	s.reg.Add("recorder", lifecycle.Worker(idle), lifecycle.WithDependencies("schema"))
	s.reg.Add("mailer", lifecycle.Worker(idle), lifecycle.WithDependencies("cache"))
	s.reg.Add("api", api, lifecycle.WithDependencies("cache", "recorder"))
	s.reg.Add("status", page, lifecycle.WithOps())
	s.reg.Add("ops", s.ops, lifecycle.WithOps(), lifecycle.WithDependencies("status"))
	for _, name := range more {
		s.reg.Add(name, lifecycle.Hooks{}, lifecycle.WithDependencies("cache"))
	}
	if err := s.reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.reg.Shutdown(within(t, 30*time.Second)); err != nil {
			t.Log("shutdown:", err) // the server may be down, and a connection leaked
		}
	})
	eventually(t, "the service is ready", func() bool { return s.reg.Health().Report().Ready() })
	s.url = "http://" + s.ops.Addr().String() + "/status/"
	s.traffic(t, "http://"+api.Addr().String())
	return s
}

func idle(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s *service) api() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		_, err := s.orders.Pool().Exec(ctx, "SELECT pg_sleep(0.02)")
		if errors.Join(err, s.cache.Client().Get(ctx, "k").Err()) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// traffic calls the service until the test ends, in waves: sometimes more than the pool is big.
func (s *service) traffic(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	begun := time.Now()
	for i := range 14 {
		wg.Go(func() {
			for ctx.Err() == nil {
				call(ctx, client, url)
				wave := int(time.Since(begun)/time.Second) % 6
				if pause := max(5, (i-wave)*30); !sleep(ctx, time.Duration(pause)*time.Millisecond) {
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		client.CloseIdleConnections()
	})
}

func call(ctx context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
