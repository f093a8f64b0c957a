package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// TestMain runs the program itself where the test below asks for it: a leak is not to outlive its
// process.
func TestMain(m *testing.M) {
	if os.Getenv("POOLKEEPER_LEAK") != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(testserver.Main(m))
}

func TestEachLeakIsNamedAndTheProgramEndsAtItsDeadline(t *testing.T) {
	srv := testserver.SharedPostgres(t)
	ctx := testkit.Within(t, testkit.Patience)
	leaksAreNamed(t, srv.URL()+"&application_name=leak", map[string]string{
		"no rows.Close": "rows", "neither Commit nor Rollback": "tx", "// no Close": "conn", "// no Release": "conn",
	})
	admin, err := pgx.Connect(ctx, srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	testkit.Eventually(t, "no connection is left on the server", func() bool {
		var left int
		if err := admin.QueryRow(ctx, "select count(*) from pg_stat_activity where application_name = 'leak'").Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
}

func TestWithoutAServerItLeaksOnSQLite(t *testing.T) {
	out := leaksAreNamed(t, "", map[string]string{"no rows.Close": "rows", "neither Commit nor Rollback": "tx", "// no Close": "conn"})
	if !strings.Contains(out, "SQLite") {
		t.Errorf("it does not say that it is no server:\n%s", out)
	}
}

// Everything an operator has shows the leak: docs/operations.md has what it looks like.
func TestLeaksAreSeenInMetricsStatusPageAndGoroutines(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context()) // outlasts Patience, so that what is missing is said
	cmd := exec.CommandContext(ctx, os.Args[0], "-stay", "10m")
	cmd.Env = append(os.Environ(), "POOLKEEPER_LEAK=1", "DATABASE_URL=")
	var out testkit.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	address := regexp.MustCompile(`look at (http://[\d.:]+)/status/`)
	var ops string
	testkit.Eventually(t, "it says where to look", func() bool {
		if m := address.FindStringSubmatch(out.String()); m != nil {
			ops = m[1]
		}
		return ops != ""
	})
	for path, wants := range map[string][]string{
		"/metrics": {
			`poolkeeper_pool_leaks_total{db_client_connection_pool_name="reports"} 3`,
			`db_client_connection_count{db_client_connection_pool_name="reports",db_client_connection_state="used"} 3`,
			`db_client_connection_pending_requests{db_client_connection_pool_name="reports"} 1`,
		},
		"/status/":                       {".leak (main.go:", "all 3 connections are in use, with 1 caller waiting"},
		"/debug/pprof/goroutine?debug=1": {".waitForConnections+", "sqlpool.(*dbBackend).acquire"},
	} {
		for _, want := range wants {
			testkit.Eventually(t, path+" shows "+want, func() bool {
				return strings.Contains(get(ctx, t, ops+path), want)
			})
		}
	}
}

func get(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// leaksAreNamed runs the program and asserts that each leak is named twice: when it is found, and
// at the end.
func leaksAreNamed(t *testing.T, url string, leaks map[string]string) string {
	t.Helper()
	cmd := exec.CommandContext(testkit.Within(t, testkit.Patience), os.Args[0])
	cmd.Env = append(os.Environ(), "POOLKEEPER_LEAK=1", "DATABASE_URL="+url)
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	begun := time.Now()
	err := cmd.Run()
	if took := time.Since(begun); took > 15*time.Second { // 2 s until the leaks come to light, 2 s to shut down, and a slow machine
		t.Errorf("it took %v", took)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s\n%s", err, out.String(), failure.String())
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for what, kind := range leaks {
		line := 1 + strings.Count(string(source[:strings.Index(string(source), what)]), "\n")
		where := fmt.Sprintf("(main.go:%d)", line)
		reported := regexp.MustCompile(`held for too long.* holder=` + kind + ` .*` + regexp.QuoteMeta(where))
		if n := len(reported.FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("%s at %s: reported %d times as a leak, want once, in\n%s", kind, where, n, out.String())
		}
		if listed := regexp.MustCompile(`Holders of \w+: ` + kind + ` for .*` + regexp.QuoteMeta(where)); len(listed.FindAllString(out.String(), -1)) != 1 {
			t.Errorf("%s at %s is not listed once by Holders:\n%s", kind, where, out.String())
		}
		if !strings.Contains(failure.String(), where) {
			t.Errorf("%s at %s is not named at the end:\n%s", kind, where, failure.String())
		}
	}
	return out.String()
}
