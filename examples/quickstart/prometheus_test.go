package main_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// A Prometheus with the rules of ops scrapes the program while PostgreSQL is killed and comes back.
func TestPrometheusSeesAnOutage(t *testing.T) {
	testkit.Slow(t)
	pg, rd := testserver.Postgres(t), testserver.Redis(t)
	p := start(t, "REDIS_URL="+rd.URL(), "DATABASE_URL="+pg.URL())
	defer p.terminate(t)
	defer p.load(t)()
	prom := prometheus(t, p.probe)
	var empty []string
	defer func() {
		if len(empty) > 0 {
			t.Errorf("no data for\n%s", strings.Join(empty, "\n"))
		}
	}()
	testkit.Eventually(t, "each expression of the dashboard has data", func() bool {
		empty = prom.empty(t)
		return len(empty) == 0
	})
	if firing := prom.firing(t); len(firing) > 0 {
		t.Errorf("before the outage: %v", firing)
	}
	pg.Kill(t)
	testkit.Eventually(t, "the alert fires", func() bool { return slices.Contains(prom.firing(t), "PoolkeeperPoolDown postgres") })
	pg.Restart(t)
	testkit.Eventually(t, "the alert is resolved", func() bool {
		return !slices.Contains(prom.firing(t), "PoolkeeperPoolDown postgres")
	})
}

// terminate ends the program as Kubernetes does.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, p.out.String())
	}
}

// load follows a link again and again, until the function it returns is called. Some requests fail
// while a server is down.
func (p *process) load(t *testing.T) (end func()) {
	t.Helper()
	link := p.api + "/" + p.shorten(t, "https://go.dev/doc")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil); err == nil {
					if resp, err := client.Do(req); err == nil {
						_ = resp.Body.Close()
					}
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

type promServer struct{ url string }

// prometheus starts one that scrapes a service each second. Alerts need not hold for minutes.
func prometheus(t *testing.T, service string) promServer {
	t.Helper()
	text, err := os.ReadFile("../../ops/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	text = regexp.MustCompile(`(?m)^( +for:) \d+m$`).ReplaceAll(text, []byte("$1 1s"))
	if err := os.WriteFile(rules, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return promServer{testserver.Prometheus(t, strings.Join([]string{
		"global: {scrape_interval: 1s, evaluation_interval: 1s}",
		"rule_files: ['" + rules + "']",
		"scrape_configs: [{job_name: quickstart, static_configs: [{targets: ['" + strings.TrimPrefix(service, "http://") + "']}]}]",
	}, "\n")).URL()}
}

func (p promServer) get(t *testing.T, path string, data any) {
	t.Helper()
	code, body := get(t, p.url+path)
	got := struct {
		Data any `json:"data"`
	}{data}
	if err := json.Unmarshal([]byte(body), &got); code != http.StatusOK || err != nil {
		t.Fatalf("%s: %d, %v: %s", path, code, err, body)
	}
}

// firing returns the alerts that fire, by name and pool.
func (p promServer) firing(t *testing.T) (out []string) {
	t.Helper()
	var data struct {
		Alerts []struct {
			State  string            `json:"state"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	p.get(t, "/api/v1/alerts", &data)
	for _, a := range data.Alerts {
		if a.State == "firing" {
			out = append(out, a.Labels["alertname"]+" "+a.Labels["db_client_connection_pool_name"])
		}
	}
	return out
}

// empty returns the expressions of the dashboard that have no data. The program has no replicas,
// certificates, streams or HTTP clients.
func (p promServer) empty(t *testing.T) (out []string) {
	t.Helper()
	board, err := os.ReadFile("../../ops/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	chosen := strings.NewReplacer("$job", ".*", "$instance", ".*", "$pool", ".*", "$__rate_interval", "10s")
	exprs := expressions(t, board)
	if len(exprs) < 20 {
		t.Fatalf("the dashboard has %d expressions", len(exprs))
	}
	without := regexp.MustCompile(`\bpoolkeeper_(member|expiry|streams|pool_reused)_`)
	for _, e := range exprs {
		if without.MatchString(e) {
			continue
		}
		var data struct {
			Result []any `json:"result"`
		}
		if p.get(t, "/api/v1/query?query="+url.QueryEscape(chosen.Replace(e)), &data); len(data.Result) == 0 {
			out = append(out, e)
		}
	}
	return out
}

// expressions are those of all panels.
func expressions(t *testing.T, board []byte) (out []string) {
	t.Helper()
	var all any
	if err := json.Unmarshal(board, &all); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				out = append(out, e)
			}
			for _, each := range v {
				walk(each)
			}
		case []any:
			for _, each := range v {
				walk(each)
			}
		}
	}
	walk(all)
	return out
}
