package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

const whole = `
redis:
  cache: {url: "redis://127.0.0.1:1/0", max_open: 20, max_open_ceiling: 50, max_waiting: none}
postgres:
  orders:
    url: {env: ORDERS_URL}
    max_idle_time: 1m30s
    max_lifetime: off
    start: start-degraded
    depends_on: [cache]
mysql:
  legacy: {url: "mysql://127.0.0.1:1/db", lifetime_jitter: 0.5}
replicated_postgres:
  reports:
    primary: {url: "postgres://127.0.0.1:1/db"}
    replicas:
      - {url: "postgres://127.0.0.1:2/db", name: near}
    fallback: stale
    max_lag: off
http:
  billing: {base_url: "http://127.0.0.1:1", class: short}
servers:
  api: {addr: "127.0.0.1:0", idle_timeout: 1m, depends_on: [orders]}
lifecycle: {shutdown_timeout: 10s, on_hang: hold}
health: {interval: 3s, jitter: off}
environments:
  prod:
    redis: {cache: {max_open: 50, max_waiting: null}}
  dev:
    postgres: {orders: {url: "postgres://127.0.0.1:1/dev"}}
`

// setting returns one of the settings of a component.
func setting(t *testing.T, c lifecycle.SettingsProvider, key string) string {
	t.Helper()
	for _, a := range c.Settings() {
		if a.Key == key {
			return a.Value.String()
		}
	}
	t.Fatalf("there is no setting %s", key)
	return ""
}

func TestLoadMakesWhatTheFileDeclares(t *testing.T) {
	t.Setenv("ORDERS_URL", "postgres://u:"+secret+"@127.0.0.1:1/orders")
	f := load(t, whole)
	cache, err := f.Redis("cache")
	if err != nil {
		t.Fatal(err)
	}
	orders, err := f.Postgres("orders")
	if err != nil {
		t.Fatal(err)
	}
	billing, err := f.HTTP("billing")
	if err != nil {
		t.Fatal(err)
	}
	reports, err := f.ReplicatedPostgres("reports")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of        lifecycle.SettingsProvider
		key, want string
	}{
		{cache, "max_open", "20"},
		{cache, "max_open_ceiling", "50"},
		{cache, "max_waiting", "-1"},
		{orders, "max_idle_time", "1m30s"},
		{orders, "max_lifetime", "off"},
		{orders, "start", "StartDegraded"},
		{billing, "class", "ClassShort"},
		{reports, "fallback", "FallbackStale"},
		{reports, "max_lag", "off"},
	} {
		if got := setting(t, c.of, c.key); got != c.want {
			t.Errorf("%T: %s is %s, want %s", c.of, c.key, got, c.want)
		}
	}
	if c := f.Lifecycle(); c.ShutdownTimeout != 10*time.Second || c.OnHang != lifecycle.HangPolicyHold || c.Health.Interval != 3*time.Second {
		t.Errorf("%+v", c)
	}
	if _, err := f.Redis("cahce"); err == nil || !strings.Contains(err.Error(), "did you mean cache?") {
		t.Errorf("%v", err)
	}
	if _, err := f.ReplicatedMySQL("reports"); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Errorf("%v", err)
	}
	if got, err := config.Environments(write(t, whole)); err != nil || len(got) != 2 || got[0] != "prod" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnEnvironmentLiesOverTheRest(t *testing.T) {
	t.Setenv("ORDERS_URL", "postgres://127.0.0.1:1/orders")
	f := load(t, whole, config.Environment("prod"))
	cache, err := f.Redis("cache")
	if err != nil {
		t.Fatal(err)
	}
	if open, waiting := setting(t, cache, "max_open"), setting(t, cache, "max_waiting"); open != "50" || waiting != "0" {
		t.Errorf("max_open %s, max_waiting %s: the environment says 50, and takes the other away", open, waiting)
	}
	t.Setenv("ORDERS_URL", "")
	load(t, whole, config.Environment("dev")) // a text replaces the reference
	_, err = config.Load(write(t, whole), config.Environment("pord"))
	if err == nil || !strings.Contains(err.Error(), `it has no environment "pord"; it has prod, dev; did you mean prod?`) {
		t.Error(err)
	}
}

// The faults are compared as a whole: position, key, value, and what is allowed.
func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	const text = `redis:
  cache:
    url: redis://:` + secret + `@cache:6379
    max_opne: 20
    max_open: many
    max_idle_time: 30
    start: soon
    max_waiting: some
    max_open: 7
    logger: x
postgres:
  orders:
    url: {env: NOT_SET_ANYWHERE}
    max_open: 5
    min_idle: 9
    max_open_ceiling: {env: HOME}
    lifetime_jitter: 3
    disable_peek: perhaps
    depends_on: cache
  cache: {url: "postgres://h/d"}
reddis: {}
http:
  billing: {base_url: "ftp://h", check_path: [1], tls_files_ca: {env: A, file: B}}
servers:
  api: {adr: ":80"}
lifecycle: {start_timeout: -1s, drain_delay: 1 week}
health: {interval: 10us}
environments: {prod: {}}
`
	path := write(t, text)
	_, err := config.Load(path)
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.ReplaceAll(err.Error(), path, "service.yaml")
	want := `config: service.yaml:3:10: redis.cache.url holds a password; the file must not: write {env: NAME} or {file: PATH} instead, or use credentials_file
config: service.yaml:4:5: redis.cache.max_opne is not a key; did you mean max_open?
config: service.yaml:5:15: redis.cache.max_open is "many"; it must be a whole number
config: service.yaml:6:20: redis.cache.max_idle_time is "30"; it must be a duration such as 1m30s, or off
config: service.yaml:7:12: redis.cache.start is "soon"; it must be one of fail-fast, wait-for-server, start-degraded
config: service.yaml:8:18: redis.cache.max_waiting is "some"; it must be a whole number, or none
config: service.yaml:9:5: redis.cache.max_open is given twice, first in line 5
config: service.yaml:10:5: redis.cache.logger cannot be set in a file; set it in code, with config.With
config: service.yaml:13:10: postgres.orders.url refers to the environment variable NOT_SET_ANYWHERE, which is not set
config: service.yaml:15:15: postgres.orders.min_idle is 9; it must be 0 to MaxOpen, 5
config: service.yaml:16:23: postgres.orders.max_open_ceiling is a reference; only a text can be one: it must be a whole number
config: service.yaml:17:22: postgres.orders.lifetime_jitter is "3"; it must be a number from 0 to 1, or off
config: service.yaml:18:19: postgres.orders.disable_peek is "perhaps"; it must be one of true, false
config: service.yaml:19:17: postgres.orders.depends_on must be a list of names
config: service.yaml:20:3: postgres.cache is also the name of redis.cache; a registry has each name once
config: service.yaml:21:1: reddis is not a section; did you mean redis?`
	for line := range strings.SplitSeq(want, "\n") {
		if !strings.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, part := range []string{
		`http.billing.base_url has the scheme "ftp"`, "http.billing.check_path is a list", "refers to env and file; give one of them",
		"servers.api.adr is not a key; did you mean addr?", "servers.api has no addr",
		`lifecycle.start_timeout is "-1s"`, `lifecycle.drain_delay is "1 week"`, "health.interval 10µs is less than 1ms",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("missing: %s", part)
		}
	}
	if strings.Contains(got, secret) {
		t.Error("the password is shown")
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) { // INV-12
	dir := t.TempDir()
	held := filepath.Join(dir, "url")
	if err := os.WriteFile(held, []byte("redis://:"+secret+"@127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("redis: {cache: {url: {file: %q}}}\nhttp: {billing: {base_url: {env: BILLING_URL}, check_path: /x}}\n", held)
	t.Setenv("BILLING_URL", "http://127.0.0.1:1")
	f := load(t, text)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "file", f)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "file", f)
	all := fmt.Sprintf("%v %+v %#v %d %v", f, f, f, f, struct{ f any }{f}) + log.String()
	if strings.Contains(all, secret) {
		t.Error(all)
	}
}

// What was read by reference is in no error, wherever it ends up.
func TestAReferenceThatIsWrongIsNotShown(t *testing.T) { // INV-12
	for name, value := range map[string]string{
		"a URL that is none":  "redis://:" + secret + "@h:port",
		"a plain password":    secret,
		"another scheme":      "amqp://u:" + secret + "@h",
		"an unknown argument": "redis://:" + secret + "@h?nonsense=" + secret,
		"a tab":               "\t" + secret + "\t\"" + secret,
		"a list":              "h:1, " + secret,
	} {
		t.Setenv("CACHE_URL", value)
		for _, key := range []string{"url", "check_command", "credentials_file", "tls_files_ca", "hosts", "host"} {
			text := "redis: {cache: {url: \"redis://h\"}}"
			switch key {
			case "url":
				text = "redis: {cache: {url: {env: CACHE_URL}}}"
			case "hosts":
				text = "http: {a: {base_url: \"http://h\", hosts: {env: CACHE_URL}}}"
			case "host":
				text = "http: {a: {base_url: \"http://h\", hosts: [{env: CACHE_URL}]}}"
			default:
				text = strings.Replace(text, "}}", ", "+key+": {env: CACHE_URL}}}", 1)
			}
			f, err := config.Load(write(t, text))
			if f != nil {
				_ = f.Abort()
			}
			if err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
				t.Errorf("%s, in %s: %v", name, key, err)
			}
		}
	}
}

func TestAPasswordInTheFileIsAFault(t *testing.T) {
	for _, value := range []string{
		"redis: {a: {url: 'redis://u:" + secret + "@h'}}",
		"redis: {a: {url: 'redis+sentinel://h/0?master_name=m&password=" + secret + "'}}",
		"postgres: {a: {url: 'host=h password=" + secret + "'}}",
		"postgres: {a: {url: 'postgres://h/d?sslpassword=" + secret + "'}}",
		"mysql: {a: {url: 'u:" + secret + "@tcp(h)/d'}}",
		"http: {a: {base_url: 'http://u:" + secret + "@h'}}",
		"replicated_mysql: {a: {primary: {url: 'mysql://u:" + secret + "@h/d'}}}",
		"postgres: {a: {url: \"postgres://u:" + secret + "@h/d\n", // a syntax error beside it
		"redis: {a: {url: &x 'redis://u:" + secret + "@h'}}",
		"redis: {a: {'redis://u:" + secret + "@h'}}",
		"postgres: {a: {url: {env: 'redis://u:" + secret + "@h'}}}",
		"redis: {'redis://u:" + secret + "@h': {}}",
		"'redis://u:" + secret + "@h': {}",
		"redis: {a: [redis://u:" + secret + "@h]}",
	} {
		f, err := config.Load(write(t, value))
		if err == nil {
			_ = f.Abort()
			t.Errorf("%s is accepted", value)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows it: %v", value, err)
		}
	}
	load(t, "postgres: {a: {url: 'postgres://u@h/d', check_query: \"select 1 where token = 'x'\"}}")
}

// Texts of YAML that would cost a careless reader its memory, its stack or its temper.
func TestHostileFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a bomb of anchors":  "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nredis: *c\n",
		"a merge key":        "x: &x {max_open: 1}\nredis: {a: {<<: *x, url: 'redis://h'}}\n",
		"a tag":              "redis: {a: {url: !!binary cmVkaXM6Ly9o}}\n",
		"brackets":           strings.Repeat("[", 100_000),
		"deep braces":        "redis: " + strings.Repeat("{a: ", 1000) + strings.Repeat("}", 1000),
		"deep lists":         strings.Repeat("- ", 2000) + "x",
		"deep keys":          strings.Repeat("? ", 2000) + "x",
		"a huge number":      "redis: {a: {url: 'redis://h', max_open: 99999999999999999999999999}}",
		"a large number":     "redis: {a: {url: 'redis://h', max_open: 9223372036854775807}}",
		"hexadecimal":        "redis: {a: {url: 'redis://h', max_open: 0x10}}",
		"not a number":       "redis: {a: {url: 'redis://h', lifetime_jitter: .nan}}",
		"endless":            "redis: {a: {url: 'redis://h', max_idle_time: .inf}}",
		"a long duration":    "redis: {a: {url: 'redis://h', max_idle_time: 2000000h}}",
		"a list for a map":   "redis: [a, b]",
		"a word for a map":   "redis: {a: yes}",
		"a map for a word":   "redis: {a: {url: 'redis://h', start: {x: y}}}",
		"two documents":      "redis: {}\n---\nhttp: {}\n",
		"a list":             "- redis",
		"a word":             "redis",
		"an odd key":         "redis: {? {a: b} : c}",
		"no UTF-8":           "redis: {a: {url: \"\xff\xfe\"}}",
		"NUL":                "redis: {a: {check_command: \"\x00\"}}",
		"a key too long":     "redis: {" + strings.Repeat("k", 200) + ": {url: 'redis://h'}}",
		"a line too long":    "# " + strings.Repeat("k", 5000),
		"too large":          strings.Repeat("#\n", 200_000),
		"an endless string":  "redis: {a: {url: \"redis://h",
		"a name that is odd": "redis: {\"a\\nb\": {url: 'redis://h', max_open: x}}",
	} {
		began := time.Now()
		f, err := config.Load(write(t, text))
		if err == nil {
			_ = f.Abort()
			t.Errorf("%s is accepted", name)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s takes %s", name, took)
		}
	}
}

// A reference is read once: it can be a pipe, as a shell's <(…) is, and a file that changes between two
// readings would be taken for unchanged.
func TestAReferenceIsReadOnce(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "url")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, []byte("http://billing"), 0) }()
	loaded := make(chan error, 1)
	go func() {
		f, err := config.Load(write(t, "http: {billing: {base_url: {file: '"+pipe+"'}}}"))
		if err == nil {
			err = f.Abort()
		}
		loaded <- err
	}()
	select {
	case failed := <-loaded:
		if err := errors.Join(failed, <-written); err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Load waits for the pipe to be written a second time")
	}
}

// An empty file declares nothing, and keys without a value have their defaults.
func TestWhatIsNotSetHasItsDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "redis:\nhttp: {}\nlifecycle:\n", "redis: {a: {url: 'redis://h', max_open: , start: ''}}"} {
		load(t, text)
	}
}

func TestAListOfTextsMayBeWrittenInThreeWays(t *testing.T) {
	t.Setenv("BILLING_HOST", "10.0.0.8:443")
	for _, hosts := range []string{"['10.0.0.7:443', {env: BILLING_HOST}]", "'10.0.0.7:443, 10.0.0.8:443'"} {
		f := load(t, "http: {billing: {base_url: 'https://billing.internal', hosts: "+hosts+"}}")
		billing, err := f.HTTP("billing")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(billing.Settings()); !strings.Contains(got, "hosts=10.0.0.7:443,10.0.0.8:443") {
			t.Errorf("%s: %s", hosts, got)
		}
	}
	_, err := config.Load(write(t, "http: {billing: {base_url: 'https://x', hosts: [a, 'b:0', 'c:1']}}"))
	for _, want := range []string{`http.billing.hosts[0] is "a"`, `http.billing.hosts[1] is "b:0"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

func TestWithSetsWhatAFileCannotSay(t *testing.T) {
	called := false
	f := load(t, "http: {billing: {base_url: 'http://127.0.0.1:1'}}", config.With("billing", func(c *httpclient.Config) {
		c.Authorize = func(*http.Request) error { called = true; return fmt.Errorf("no token") }
	}))
	billing, err := f.HTTP("billing")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := billing.HTTP().Do(req); err == nil {
		_ = resp.Body.Close()
	}
	if !called {
		t.Error("Authorize was not set")
	}
}

func TestOfflineNeedsNoSecrets(t *testing.T) {
	const text = `
redis: {cache: {url: {env: NOT_SET_ANYWHERE}, credentials_file: /nowhere/credentials, tls_files_ca: /nowhere/ca, max_open: 3}}
replicated_mysql: {a: {primary: {url: {file: /nowhere/url}}}}`
	f := load(t, text, config.Offline())
	cache, err := f.Redis("cache")
	if err != nil {
		t.Fatal(err)
	}
	if got := setting(t, cache, "max_open"); got != "3" {
		t.Error(got)
	}
	if _, err := config.Load(write(t, text+"\nhttp: {a: {max_open: -1}}"), config.Offline()); err == nil {
		t.Error("other faults are not found")
	}
}

func TestAddToAddsByNameWithDependencies(t *testing.T) {
	t.Setenv("ORDERS_URL", "postgres://127.0.0.1:1/orders")
	f := load(t, whole)
	reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent()})
	if err := f.AddTo(reg); err == nil || !strings.Contains(err.Error(), `server "api" has no handler; call Serve before AddTo`) {
		t.Fatal(err)
	}
	f.Serve("api", http.NotFoundHandler())
	if err := f.AddTo(reg); err != nil {
		t.Fatal(err)
	}
	if err := f.AddTo(reg); err == nil {
		t.Error("AddTo twice is accepted")
	}
	if err := reg.Validate(); err != nil {
		t.Fatal(err)
	}
	graph := reg.Graph()
	for _, name := range []string{"cache", "orders", "legacy", "reports", "billing", "api"} {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(graph) {
			t.Errorf("%s is not in\n%s", name, graph)
		}
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whatever the text, Load returns, and what it accepts can be closed.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{whole, "redis: {a: {url: 'redis://h'}}", "a: &a [*a]", "? x\n: y", "{", "- - - x", "a: |\n  b\n"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "service.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := config.Load(path, config.Offline(), config.Logger(testkit.Silent()))
		if (file == nil) == (err == nil) {
			t.Fatal(file, err)
		}
		if file != nil {
			_ = file.Abort()
		}
	})
}
