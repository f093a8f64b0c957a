package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
)

// configs are the files of the golden tests.
var configs = map[string]string{
	"old.yaml": `redis:
  cache: {url: "redis://cache", max_open: 20, max_open_ceiling: 50}
postgres:
  orders: {url: {env: ORDERS_URL}, max_open: 10}
http:
  billing: {base_url: "http://billing"}
servers:
  api: {addr: ":8080"}
environments:
  prod:
    redis: {cache: {max_open: 50}}
`,
	"new.yaml": `redis:
  cache: {url: "redis://cache", max_open: 30, max_open_ceiling: 50, read_timeout: 1s}
postgres:
  orders: {url: {env: ORDERS_URL}, max_open: 8, max_idle_time: 1m}
  reports: {url: {env: REPORTS_URL}}
servers:
  api: {addr: ":8081"}
lifecycle: {drain_delay: 5s}
health: {interval: 5s}
environments:
  prod:
    redis: {cache: {max_open: 50}}
`,
	"sizes.yaml": `redis:
  cache: {url: "redis://cache", max_open: 30, max_open_ceiling: 50}
postgres:
  orders: {url: {env: ORDERS_URL}, max_open: 8}
http:
  billing: {base_url: "http://billing"}
servers:
  api: {addr: ":8080"}
`,
	"faults.yaml": `redis:
  cache: {url: "redis://u:` + password + `@cache", max_opne: 20}
environments:
  dev: {}
  prod:
    redis: {cache: {max_idle_time: 30}}
`,
}

// inDir writes the files into a directory, and makes it the current one, so that outputs have no path.
func inDir(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range configs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestCheckAndPlan(t *testing.T) {
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	inDir(t)
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"check-ok.txt":         {cli.ExitOK, []string{"check", "--offline", "old.yaml"}},
		"check-faults.txt":     {cli.ExitFindings, []string{"check", "faults.yaml"}},
		"check-no-secret.txt":  {cli.ExitFindings, []string{"check", "--environment", "prod", "old.yaml"}},
		"check-no-file.txt":    {cli.ExitFindings, []string{"check", "nowhere.yaml"}},
		"plan-restart.txt":     {cli.ExitFindings, []string{"plan", "old.yaml", "new.yaml"}},
		"plan-sizes.txt":       {cli.ExitOK, []string{"plan", "old.yaml", "sizes.yaml"}},
		"plan-nothing.txt":     {cli.ExitOK, []string{"plan", "--environment", "prod", "old.yaml", "old.yaml"}},
		"plan-faults.txt":      {cli.ExitFindings, []string{"plan", "old.yaml", "faults.yaml"}},
		"plan-environment.txt": {cli.ExitFindings, []string{"plan", "--environment", "pord", "old.yaml", "new.yaml"}},
	} {
		r := run(t, nil, c.args...)
		if r.code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, r.code, c.code)
		}
		goldenAt(t, filepath.Join(testdata, name), r.out+r.err)
	}
}

func TestCheckAndPlanNeedTheirFiles(t *testing.T) {
	for _, args := range [][]string{{"check"}, {"check", "a", "b"}, {"plan", "a"}, {"plan", "a", "b", "c"}, {"plan", "--offline", "a", "b"}} {
		if r := run(t, nil, args...); r.code != cli.ExitUsage || r.out != "" {
			t.Errorf("%v: exit code %d, %s%s", strings.Join(args, " "), r.code, r.out, r.err)
		}
	}
}
