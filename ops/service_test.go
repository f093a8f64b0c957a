package ops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/metrics"
	"github.com/poolkeeper/poolkeeper/ops/internal/generate"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// service runs a service on real servers until the test ends, and returns where it shows its metrics,
// and its PostgreSQL.
func service(t *testing.T, postgres, redis *testserver.Server) (addr string, pool *pgxpool.Pool) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	reg := lifecycle.New(lifecycle.Config{
		Logger: quiet, ShutdownTimeout: 10 * time.Second, Health: health.Config{Logger: quiet, Interval: time.Second},
	})
	orders, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: postgres.URL(), MaxOpen: 4, MinIdle: 1, FailFastAfter: 500 * time.Millisecond, Instances: 2,
		LeakThreshold: time.Second, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := redispool.New(redispool.Config{URL: redis.URL(), MaxOpen: 4, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ops := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: metrics.Handler(reg), ReadHeaderTimeout: time.Minute})
	reg.Add("orders", orders)
	reg.Add("cache", cache)
	reg.Add("ops", ops, lifecycle.WithOps())
	reg.Add("replicated", replicated())
	reg.Add("billing", client())
	reg.Add("live", hub())
	reg.Go("traffic", func(ctx context.Context) error {
		for ctx.Err() == nil {
			_, _ = orders.Pool().Exec(ctx, "SELECT 1") // fails while the server is down
			_ = cache.Client().Set(ctx, "key", "value", 0).Err()
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		return nil
	}, lifecycle.WithDependencies("orders", "cache"))
	measuretest.Start(t, reg)
	return ops.Addr().String(), orders.Pool()
}

// replicated is a pool of numbers: real replicas, and certificates, are tested where they are made.
func replicated() *measuretest.Pool {
	return &measuretest.Pool{
		Numbers: func() poolkeeper.Stats {
			return poolkeeper.Stats{Max: 1, Members: []poolkeeper.MemberStats{
				{Name: "primary", Primary: true, State: "ready", InRotation: true},
				{Name: "replica", State: "ready", InRotation: true, HasLag: true, Lag: time.Second, HasScore: true, Score: 90},
			}}
		},
		Dates: []poolkeeper.Expiry{{Kind: poolkeeper.ExpiryCA, Subject: "root", NotAfter: time.Now().Add(365 * 24 * time.Hour)}},
	}
}

// client is an HTTP client of numbers, which grow.
func client() *measuretest.Pool {
	begun := time.Now()
	return &measuretest.Pool{Numbers: func() poolkeeper.Stats {
		n := uint64(time.Since(begun).Milliseconds())
		return poolkeeper.Stats{Max: 100, Acquired: 10 * n, Reused: 9 * n, Unread: n / 100}
	}}
}

// hub has streams of numbers.
func hub() *measuretest.Hub {
	return &measuretest.Hub{Numbers: poolkeeper.StreamStats{
		WebSocket: 10, SSE: 20, Buffered: 3, Opened: 40, Sent: 1000,
		Ended: map[string]uint64{"peer": 10}, Refused: map[string]uint64{"key": 1},
	}}
}

// watched starts a Prometheus that scrapes the service each second, by rules that need not hold for
// minutes.
func watched(t *testing.T, service string) *prom {
	t.Helper()
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	text := generate.Rules(generate.Timing{Interval: time.Second, Shorten: 60})
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := strings.Join([]string{
		"global: {scrape_interval: 1s, evaluation_interval: 1s}",
		"rule_files: ['" + rules + "']",
		"scrape_configs: [{job_name: shop, static_configs: [{targets: ['" + service + "']}]}]",
	}, "\n")
	return &prom{testserver.Prometheus(t, config).URL()}
}

// prom asks a Prometheus.
type prom struct{ url string }

func (p *prom) get(t *testing.T, path string, data any) {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Within(t, 10*time.Second), http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	got := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%s: %d: %s", path, answer.StatusCode, got.Error)
	}
}

// firing returns the alerts that fire, by name and subject.
func (p *prom) firing(t *testing.T) map[string]bool {
	t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	p.get(t, "/api/v1/alerts", &data)
	firing := map[string]bool{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			firing[a.Labels["alertname"]+" "+a.Labels["db_client_connection_pool_name"]+a.Labels["check"]] = true
		}
	}
	return firing
}

// series returns how many series an expression has now.
func (p *prom) series(t *testing.T, expr string) int {
	t.Helper()
	var data struct{ Result []any }
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result)
}

func TestAlertsFireForALeakAndAnOutageAndAreResolved(t *testing.T) {
	testkit.Slow(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	postgres, redis := testserver.Postgres(t), testserver.Redis(t)
	addr, orders := service(t, postgres, redis)
	p := watched(t, addr)

	testkit.Eventually(t, "the service is scraped", func() bool { return p.series(t, "poolkeeper_pool_down") == 4 })
	var left []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("without data:\n" + strings.Join(left, "\n"))
		}
	})
	testkit.Eventually(t, "every expression of the dashboard has data", func() bool { left = p.empty(t); return len(left) == 0 })
	if broken := p.broken(t); len(broken) > 0 {
		t.Errorf("rules cannot be evaluated: %q", broken)
	}
	if firing := p.firing(t); len(firing) > 0 {
		t.Errorf("alerts fire before the outage: %v", firing)
	}

	leaked, err := orders.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the alert of the leak fires", func() bool { return p.firing(t)["PoolkeeperLeak orders"] })
	leaked.Release()

	postgres.Kill(t)
	testkit.Eventually(t, "the alerts fire", func() bool {
		f := p.firing(t)
		return f["PoolkeeperPoolDown orders"] && f["PoolkeeperCheckFails orders"]
	})
	testkit.Eventually(t, "the error budget is spent", func() bool { return p.firing(t)["PoolkeeperErrorBudgetBurnFast orders"] })
	if p.firing(t)["PoolkeeperPoolDown cache"] {
		t.Error("Redis is up, and an alert says that it is down")
	}

	postgres.Restart(t)
	testkit.Eventually(t, "the alerts are resolved", func() bool {
		f := p.firing(t)
		return !f["PoolkeeperPoolDown orders"] && !f["PoolkeeperCheckFails orders"]
	})
}

// empty returns the expressions of the dashboard that have no data, with everything chosen.
func (p *prom) empty(t *testing.T) (exprs []string) {
	t.Helper()
	chosen := strings.NewReplacer("$job", ".*", "$instance", ".*", "$pool", ".*", "$__rate_interval", "10s")
	for _, r := range generate.Rows() {
		for _, panel := range r.Panels {
			for _, q := range panel.Queries {
				if p.series(t, chosen.Replace(q.Expr)) == 0 {
					exprs = append(exprs, fmt.Sprintf("%s / %s: %s", r.Title, panel.Title, q.Expr))
				}
			}
		}
	}
	return exprs
}

// broken returns the rules whose evaluation fails.
func (p *prom) broken(t *testing.T) (rules []string) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.get(t, "/api/v1/rules", &data)
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				rules = append(rules, r.Name+": "+r.Health+" "+r.LastError)
			}
		}
	}
	return rules
}
