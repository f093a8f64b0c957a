package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/doctor"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

const year = 365 * 24 * time.Hour

// pki is an authority, and a certificate for 127.0.0.1 by it, on disk.
type pki struct{ ca, cert, key string }

func newPKI(t *testing.T, valid time.Duration) pki {
	t.Helper()
	return newPKIFor(t, "127.0.0.1", valid)
}

func newPKIFor(t *testing.T, name string, valid time.Duration) pki {
	t.Helper()
	dir, authority := t.TempDir(), testcerts.New(t)
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL reads it as another user
		t.Fatal(err)
	}
	cert, key := authority.LeafUntil(t, name, time.Now().Add(valid))
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return pki{file("ca", authority.PEM), file("cert", cert), file("key", key)}
}

// redis starts a Redis with a TLS port, which demands certificates of clients if demands.
func (k pki) redis(t *testing.T, demands string) (plain, secure string) {
	t.Helper()
	secure = testkit.FreeAddr(t)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	srv := testserver.Redis(t, "--tls-port", port, "--tls-auth-clients", demands, "--tls-ca-cert-file", k.ca,
		"--tls-cert-file", k.cert, "--tls-key-file", k.key)
	return srv.Addr(), secure
}

// postgres starts a PostgreSQL with TLS, where the user app may log in only by TLS, and the user
// mutual only with a certificate.
func (k pki) postgres(t *testing.T) *testserver.Server {
	t.Helper()
	srv := testserver.Postgres(t)
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pgExec(t, srv, "create role app login password '"+password+"'")
	pgExec(t, srv, "create role mutual login")
	for setting, path := range map[string]string{"ssl_cert_file": k.cert, "ssl_key_file": k.key, "ssl_ca_file": k.ca} {
		pgExec(t, srv, fmt.Sprintf("alter system set %s = '%s'", setting, srv.WriteFile(t, setting, read(path))))
	}
	srv.WriteFile(t, "data/pg_hba.conf", []byte("hostssl all app 127.0.0.1/32 scram-sha-256\n"+
		"hostssl all mutual 127.0.0.1/32 trust clientcert=verify-ca\nhost all postgres 127.0.0.1/32 trust\n"))
	pgExec(t, srv, "alter system set ssl = on")
	pgExec(t, srv, "select pg_reload_conf()")
	testkit.Eventually(t, "the server speaks TLS", func() bool {
		c, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://app:%s@%s/postgres?sslmode=require", password, srv.Addr()))
		if err == nil {
			_ = c.Close(t.Context())
		}
		return err == nil
	})
	return srv
}

func pgExec(t *testing.T, srv *testserver.Server, statement string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if _, err := c.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// expect runs doctor and compares text and JSON with golden files.
func expect(t *testing.T, name string, code int, args ...string) {
	t.Helper()
	args = append([]string{"doctor"}, args...)
	r := run(t, nil, args...)
	if r.code != code || r.err != "" {
		t.Errorf("%s: exit code %d, want %d; stderr %q", name, r.code, code, r.err)
	}
	golden(t, name+".txt", r.out)
	r = run(t, nil, append(args, "--json")...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != code || report.Healthy != (code == 0) {
		t.Errorf("%s: %v, exit code %d, healthy %v", name, err, r.code, report.Healthy)
	}
	golden(t, name+".json", r.out)
}

func TestDoctorOfServersThatAreWell(t *testing.T) {
	expect(t, "good", cli.ExitOK, "--instances", "2", "--max-open", "10",
		testserver.SharedRedis(t).URL(), testserver.SharedPostgres(t).URL(), testserver.SharedMariaDB(t).URL())
}

func TestDoctorSaysWhatToSet(t *testing.T) {
	redis := testserver.Redis(t, "--maxclients", "150", "--timeout", "60", "--tcp-keepalive", "0")
	postgres := testserver.Postgres(t, "max_connections=100", "idle_session_timeout=5min")
	expect(t, "to-set", cli.ExitFindings, "--instances", "12", "--max-open", "20", "--keep-alive", "5m", redis.URL(), postgres.URL())
	expect(t, "too-small", cli.ExitFindings, "--instances", "60", "--max-open", "20", testserver.SharedMariaDB(t).URL())
}

func TestDoctorSeesPgbouncer(t *testing.T) {
	srv := testserver.PgBouncer(t, testserver.SharedPostgres(t))
	expect(t, "pgbouncer", cli.ExitFindings, "--instances", "12", "--max-open", "20", srv.URL())
	if r := run(t, nil, "doctor", srv.URL()+"&default_query_exec_mode=exec"); r.code != cli.ExitOK {
		t.Errorf("with the mode that it asks for: %d\n%s", r.code, r.out)
	}
}

func TestDoctorByTLS(t *testing.T) {
	k := newPKI(t, year)
	_, redis := k.redis(t, "no")
	_, mutual := k.redis(t, "yes")
	postgres := k.postgres(t)
	url := fmt.Sprintf("postgres://app:%s@%s/postgres", password, postgres.Addr())
	expect(t, "tls", cli.ExitOK, "--tls-ca", k.ca, "rediss://"+redis, url)
	soon, now := newPKI(t, 10*24*time.Hour+time.Minute), newPKI(t, -time.Hour)
	_, expiresSoon := soon.redis(t, "no")
	expect(t, "expires-soon", cli.ExitFindings, "--tls-ca", soon.ca, "rediss://"+expiresSoon)
	_, expired := now.redis(t, "no")
	expect(t, "expired", cli.ExitFindings, "--tls-ca", now.ca, "rediss://"+expired)
	expect(t, "tls-client-certificate", cli.ExitOK, "--tls-ca", k.ca, "--tls-cert", k.cert, "--tls-key", k.key, "rediss://"+mutual)
	expect(t, "no-client-certificate", cli.ExitFindings, "--tls-ca", k.ca, "rediss://"+mutual,
		"postgres://mutual@"+postgres.Addr()+"/postgres")
	expect(t, "untrusted", cli.ExitFindings, "rediss://"+redis, url+"?sslmode=verify-full")
}

func TestDoctorOfTLSOnOneSide(t *testing.T) {
	testkit.Slow(t)
	k := newPKI(t, year)
	plain, secure := k.redis(t, "no")
	postgres := k.postgres(t)
	bare, _, _ := strings.Cut(testserver.SharedPostgres(t).URL(), "?")
	expect(t, "tls-to-plain", cli.ExitFindings, "--timeout", "2s", "rediss://"+plain, bare+"?sslmode=require",
		testserver.MariaDB(t, "--skip-ssl").URL()+"?tls=true")
	expect(t, "plain-to-tls", cli.ExitFindings, "--timeout", "2s", "redis://"+secure,
		fmt.Sprintf("postgres://app:%s@%s/postgres?sslmode=disable", password, postgres.Addr()))
}

func TestDoctorOfAWrongPassword(t *testing.T) {
	redis := testserver.Redis(t, "--requirepass", "another")
	postgres := newPKI(t, year).postgres(t)
	mariadb := testserver.MariaDB(t)
	expect(t, "wrong-password", cli.ExitFindings, "redis://:"+password+"@"+redis.Addr(),
		fmt.Sprintf("postgres://app:%s-not@%s/postgres?sslmode=require", password, postgres.Addr()),
		"mysql://root:"+password+"@"+mariadb.Addr()+"/test")
}

func TestDoctorOfWrongAddresses(t *testing.T) {
	testkit.Slow(t)
	free := testkit.FreeAddr(t)
	expect(t, "wrong-port", cli.ExitFindings, "redis://"+free, "postgres://app@"+free+"/orders?sslmode=disable", "mysql://app@"+free+"/orders")
	expect(t, "unknown-name", cli.ExitFindings, "redis://redis.invalid", "postgres://app@postgres.invalid/orders?sslmode=disable", "mysql://app@mysql.invalid/orders")
	redis, postgres, mariadb := testserver.SharedRedis(t).Addr(), testserver.SharedPostgres(t).Addr(), testserver.SharedMariaDB(t).Addr()
	expect(t, "wrong-server", cli.ExitFindings, "--timeout", "2s",
		"redis://"+postgres, "redis://"+mariadb,
		"postgres://app@"+redis+"/orders?sslmode=disable", "postgres://app@"+mariadb+"/orders",
		"mysql://app@"+redis+"/orders", "mysql://app@"+postgres+"/orders")
}

func TestDoctorOfAFullServer(t *testing.T) {
	redis := testserver.Redis(t, "--maxclients", "2")
	for range 2 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", redis.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("PING\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}
	postgres := testserver.Postgres(t, "max_connections=4", "superuser_reserved_connections=3")
	pgExec(t, postgres, "create role app login")
	url := "postgres://app@" + postgres.Addr() + "/postgres?sslmode=disable"
	var c *pgx.Conn
	testkit.Eventually(t, "the one place is taken", func() (ok bool) {
		var err error
		c, err = pgx.Connect(t.Context(), url)
		return err == nil
	})
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	expect(t, "full", cli.ExitFindings, redis.URL(), url)
}

// A server that never answers costs no more than the timeout.
func TestDoctorEndsByItsTimeout(t *testing.T) {
	frozen := testserver.Redis(t)
	frozen.Freeze(t)
	defer frozen.Thaw(t)
	const limit = 1500 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	addr := frozen.Addr()
	began := time.Now()
	r := runWithin(ctx, t, nil, "doctor", "--timeout", limit.String(), "redis://"+addr, "rediss://"+addr,
		"postgres://app@"+addr+"/d?sslmode=disable", "mysql://app@"+addr+"/d")
	took := time.Since(began)
	if r.code != cli.ExitFindings || took > 10*limit {
		t.Errorf("exit code %d after %s:\n%s", r.code, took, r.out)
	}
	if n := strings.Count(r.out, "fails        timeout: "); n != 4 {
		t.Errorf("%d servers count as silent:\n%s", n, r.out)
	}
}

// A URL with a password comes by an environment variable, and is shown without it.
func TestURLsComeFromTheEnvironment(t *testing.T) {
	redis := testserver.Redis(t, "--requirepass", password)
	env := with(nil, "CACHE_URL", "redis://:"+password+"@"+redis.Addr())
	r := run(t, env, "doctor", "--env", "CACHE_URL")
	if r.code != cli.ExitOK || !strings.Contains(r.out, "redis://"+redis.Addr()) {
		t.Errorf("%d: %s%s", r.code, r.out, r.err)
	}
}

func TestFaultsOfTheCommandLineAreExitCode2(t *testing.T) {
	for name, args := range map[string][]string{
		"no URL":                     {"doctor"},
		"no scheme":                  {"doctor", "localhost:6379"},
		"an unknown scheme":          {"doctor", "amqp://app:" + password + "@localhost"},
		"a URL that is none":         {"doctor", "redis://app:" + password + "%zz@localhost"},
		"a port that is none":        {"doctor", "postgres://app:" + password + "@localhost:x/d"},
		"an unknown parameter":       {"doctor", "redis://:" + password + "@localhost?nonsense=1"},
		"a variable that is not set": {"doctor", "--env", "CACHE_URL"},
		"no instances":               {"doctor", "--instances", "0", "redis://localhost"},
		"no time":                    {"doctor", "--timeout", "0s", "redis://localhost"},
		"no file":                    {"doctor", "--tls-ca", "/nowhere/ca", "rediss://localhost"},
		"an unknown flag":            {"doctor", "--nonsense", "redis://localhost"},
		"an unknown command":         {"heal"},
		"nothing to watch":           {"watch"},
		"a URL that is not HTTP":     {"watch", "ftp://u:" + password + "@localhost"},
	} {
		r := run(t, nil, args...)
		if r.code != cli.ExitUsage || r.err == "" || r.out != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, r.code, r.out, r.err)
		}
	}
}

// A URL with a password may stand where a command line has no place for it.
func TestACommandLineThatIsNotUnderstoodShowsNoPassword(t *testing.T) {
	for _, u := range []string{
		"redis://u:sesame@h", "redis://u:x sesame@h", "redis://u:x\nsesame@h", `redis://u:"sesame@h`, "redis://u:sesame=x@h",
	} {
		for _, args := range [][]string{
			{u},
			{"help", u},
			{"help", "doctor", u},
			{"completion", u},
			{"completion", "bash", u},
			{"-" + u},
			{"--" + u},
			{"doctor", "-" + u},
			{"doctor", "--" + u},
			{"doctor", "--timeout", u},
			{"doctor", "--timeout=" + u},
			{"doctor", "--instances", u},
			{"doctor", "--json=" + u},
			{"doctor", "--env", u},
			{"doctor", "--tls-ca", u, "redis://localhost:1"},
			{"watch", u},
			{"watch", u, u},
			{"watch", "--interval=" + u, u},
			{"watch", "--tls-ca", u, "http://localhost:1"},
		} {
			run(t, nil, args...) // fails if the password is in its output
		}
	}
	if r := run(t, nil, "redis://u:sesame@h"); r.code != cli.ExitUsage || !strings.Contains(r.err, `unknown command "***"`) {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	if r := run(t, nil, "doctor", "--timeout", "redis://u:sesame@h"); !strings.Contains(r.err, `"***" for "--timeout" flag`) {
		t.Errorf("the flag is not named:\n%s", r.err)
	}
	if r := run(t, nil, "help", "nothing"); r.code != cli.ExitUsage || !strings.Contains(r.err, "there is no such command") {
		t.Errorf("%d\n%s", r.code, r.err)
	}
	if r := run(t, nil, "help", "doctor"); r.code != cli.ExitOK || !strings.Contains(r.out, "--instances") {
		t.Errorf("%d\n%s", r.code, r.err)
	}
}

// A server that was sent the password, and repeats it in its error. run looks for it in the output.
func TestDoctorHidesThePasswordThatAServerRepeats(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() { // ends with the listener, and is waited for below
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { // ends with its connection, or by its deadline
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				for b := make([]byte, 4096); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					_, _ = io.WriteString(c, "-ERR no such user, app with "+password+"\r\n")
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	for _, args := range [][]string{nil, {"--json"}} {
		r := run(t, nil, append([]string{"doctor", "--timeout", "2s", "redis://app:" + password + "@" + l.Addr().String()}, args...)...)
		if r.code != cli.ExitFindings || !strings.Contains(r.out, "no such user") {
			t.Errorf("%d\n%s%s", r.code, r.out, r.err)
		}
	}
}

func TestAnErrorOfAServerDoesNotSteerTheTerminal(t *testing.T) {
	addr := answers(t, "HTTP/1.1 500 \x1b[2J\x07 evil\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	r := run(t, nil, "watch", "http://"+addr)
	if r.code != cli.ExitFindings || !strings.Contains(r.err, "evil") || strings.ContainsAny(r.err, "\x1b\x07") {
		t.Errorf("%d %q", r.code, r.err)
	}
}

// answers returns the address of a server that answers each connection with text, and closes it.
func answers(t *testing.T, text string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the test
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(text))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}
