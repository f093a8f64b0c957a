package main_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testserver.Main(built{m}))
}

func TestShortensOnEmbeddedServersAndShutsDownInOrder(t *testing.T) {
	p := start(t)
	p.useAndShutDown(t)
	p.assertStopped(t, "api", "recorder", "schema", "sqlite", "sqlite-file", "probes")
	p.assertStopped(t, "api", "cache", "redis-server", "probes")
}

func TestLeavesNoConnectionOnRealServers(t *testing.T) {
	rd, pg, my := testserver.SharedRedis(t), testserver.SharedPostgres(t), testserver.SharedMariaDB(t)
	p := start(t, "REDIS_URL="+rd.URL(), "DATABASE_URL="+pg.URL(), "MYSQL_URL="+my.URL())
	p.useAndShutDown(t)
	p.assertStopped(t, "api", "recorder", "schema", "postgres", "probes")
	p.assertStopped(t, "schema", "mysql", "probes")
	p.assertStopped(t, "api", "cache", "probes")

	// INV-9, seen from the servers. PostgreSQL removes a backend from its list a moment after the
	// socket is closed.
	none(t, "pg_stat_activity", func() (string, error) {
		return strings.Join(query(t, "pgx", pg.URL(), `SELECT application_name || ' ' || state || ' ' || query
			FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`), "\n"), nil
	})
	none(t, "SHOW PROCESSLIST", func() (string, error) {
		return strings.Join(query(t, "mysql", my.DSN(), `SELECT CONCAT(ID, ' ', COMMAND) FROM information_schema.PROCESSLIST
			WHERE ID <> CONNECTION_ID() AND USER = 'root'`), "\n"), nil
	})
	none(t, "CLIENT LIST", func() (string, error) {
		c := redis.NewClient(&redis.Options{Addr: rd.Addr(), PoolSize: 1})
		defer func() { _ = c.Close() }()
		all, err := c.ClientList(t.Context()).Result()
		return strings.Join(strings.Split(strings.TrimSpace(all), "\n")[1:], "\n"), err // the first is our own
	})
	if links := query(t, "pgx", pg.URL(), `SELECT code FROM links`); len(links) == 0 {
		t.Error("PostgreSQL has no links: the service did not use it")
	}
	if visits := query(t, "mysql", my.DSN(), `SELECT code FROM visits`); len(visits) != follows {
		t.Errorf("MySQL has %d visits, want %d: one for each redirect, none lost at shutdown", len(visits), follows)
	}
}

func TestHelpExitsWithoutStarting(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), program, "-h").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "-probe-addr") {
		t.Fatalf("-h: %v\n%s", err, out)
	}
}

func TestBadAddressIsAnErrorOfStart(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), program, "-addr", "127.0.0.1:0", "-probe-addr", "300.0.0.1:1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "probes") {
		t.Fatalf("exit %v, want a failure that names the component:\n%s", err, out)
	}
}

// follows is how many redirects useAndShutDown asks for.
const follows = 2

// process is the running program.
type process struct {
	cmd        *exec.Cmd
	api, probe string // base URLs

	out testkit.Log

	exited chan struct{} // closed when the output has ended
}

// start runs the program on free ports and waits until it says that it is ready.
func start(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), program, "-addr", "127.0.0.1:0", "-probe-addr", "127.0.0.1:0")
	p.cmd.Env = append(withoutServers(os.Environ()), env...)
	p.cmd.WaitDelay = testkit.Patience
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(p.exited)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			_, _ = fmt.Fprintln(&p.out, lines.Text())
			if strings.HasPrefix(lines.Text(), "Then, with a request in flight") {
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
	case <-p.exited:
		t.Fatalf("it ended before it was ready:\n%s", p.out.String())
	case <-time.After(testkit.Patience):
		t.Fatalf("not ready:\n%s", p.out.String())
	}
	p.api = "http://" + p.address(t, `http://([\d.:]+)/links `)
	p.probe = "http://" + p.address(t, `http://([\d.:]+)/readyz`)
	return p
}

// useAndShutDown does what the README promises: traffic, then SIGTERM with requests in flight.
func (p *process) useAndShutDown(t *testing.T) {
	t.Helper()
	if code, body := get(t, p.probe+"/readyz"); code != http.StatusOK {
		t.Fatalf("readyz = %d: %s", code, body)
	}
	code := p.shorten(t, "https://go.dev/doc")
	for i, want := range [follows]string{"miss", "hit"} {
		if got := p.follow(t, code); got != want {
			t.Errorf("redirect %d: X-Cache = %q, want %q", i+1, got, want)
		}
	}
	p.awaitVisits(t, code, follows)
	p.lookAtOps(t)

	slow := make([]*bufio.Reader, 4)
	for i := range slow {
		slow[i] = p.openSlow(t)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "readyz answers 503 while requests are in flight", func() bool {
		code, _ := get(t, p.probe+"/readyz")
		return code == http.StatusServiceUnavailable
	})
	for _, body := range slow {
		if rest, err := io.ReadAll(body); err != nil || !strings.HasPrefix(string(rest), "done after") {
			t.Errorf("request in flight at SIGTERM: %q, %v", rest, err)
		}
	}
	<-p.exited
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if t.Failed() {
		t.Logf("it printed:\n%s", p.out.String())
	}
}

// lookAtOps asks for what an operator looks at.
func (p *process) lookAtOps(t *testing.T) {
	t.Helper()
	for path, want := range map[string]string{
		"/status/":                       `<h1`,
		"/status/status.json":            `"name":"cache"`,
		"/metrics":                       `db_client_connection_count{db_client_connection_pool_name="cache"`,
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total",
	} {
		if code, body := get(t, p.probe+path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d without %s:\n%.2000s", path, code, want, body)
		}
	}
}

func (p *process) shorten(t *testing.T, target string) (code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.api+"/links",
		strings.NewReader(url.Values{"url": {target}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, _, body := do(t, req)
	if status != http.StatusCreated {
		t.Fatalf("POST /links = %d: %s", status, body)
	}
	return strings.TrimSpace(body[strings.LastIndexByte(body, '/')+1:])
}

func (p *process) follow(t *testing.T, code string) (cache string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.api+"/"+code, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := do(t, req)
	if status != http.StatusFound || header.Get("Location") != "https://go.dev/doc" {
		t.Fatalf("GET /%s = %d to %q: %s", code, status, header.Get("Location"), body)
	}
	return header.Get("X-Cache")
}

// awaitVisits waits until the recorder has written what the redirects queued.
func (p *process) awaitVisits(t *testing.T, code string, want int) {
	t.Helper()
	testkit.Eventually(t, "the visits are counted", func() bool {
		_, body := get(t, p.api+"/links/"+code)
		var link struct{ Visits int }
		if err := json.Unmarshal([]byte(body), &link); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		return link.Visits == want
	})
}

// openSlow makes a request that takes longer than everything before the server stops, and returns
// once it is served.
func (p *process) openSlow(t *testing.T) *bufio.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.api+"/slow?for=4s", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("GET /slow began with %q, %v", line, err)
	}
	return body
}

// assertStopped looks for the steps of the shutdown in the order given.
func (p *process) assertStopped(t *testing.T, names ...string) {
	t.Helper()
	out := p.out.String()
	rest := out
	for _, name := range names {
		at := regexp.MustCompile(`(?m)^stopped +` + regexp.QuoteMeta(name) + ` +[\d.]+ ms$`).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no step %q after those before it in %v; it printed:\n%s", name, names, out)
		}
		rest = rest[at[1]:]
	}
}

func (p *process) address(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(p.out.String())
	if m == nil {
		t.Fatalf("no %s in what it printed:\n%s", pattern, p.out.String())
	}
	return m[1]
}

// program is the binary under test.
var program string

// built builds the program around the tests.
type built struct{ m *testing.M }

func (b built) Run() int {
	dir, err := os.MkdirTemp("", "quickstart-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "quickstart")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return b.m.Run()
}

// withoutServers removes the addresses of servers from env. The developer may have set them.
func withoutServers(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if name != "REDIS_URL" && name != "DATABASE_URL" && name != "MYSQL_URL" {
			kept = append(kept, e)
		}
	}
	return kept
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	status, _, body := do(t, req)
	return status, body
}

// client follows no redirects and keeps no connections, so that none is open when the test ends.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       testkit.Patience,
}

func do(t *testing.T, req *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", req.Method, req.URL, err)
		return 0, nil, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", req.Method, req.URL, err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func query(t *testing.T, driver, dsn, q string) []string {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func none(t *testing.T, what string, list func() (string, error)) {
	t.Helper()
	var left string
	defer func() {
		if t.Failed() {
			t.Logf("%s still shows:\n%s", what, left)
		}
	}()
	testkit.Eventually(t, what+" shows no connection of ours", func() bool {
		var err error
		if left, err = list(); err != nil {
			t.Fatal(err)
		}
		return left == ""
	})
}
