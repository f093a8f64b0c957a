package sqlpool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
)

// tlsPort is the address of a server that speaks TLS from the first byte on.
func tlsPort(t *testing.T, ca *testcerts.Authority) string {
	t.Helper()
	l, err := tls.Listen("tcp", testkit.FreeAddr(t), &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "127.0.0.1")}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the listener, at the end of the test
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) { // ends when the client hangs up
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// mismatch is a server that is not as a URL says, and how a first connection fails there.
type mismatch struct {
	url     string
	files   poolkeeper.TLSFiles
	failure pooltest.Failure
}

// named asks and starts, and compares what both say.
func named(t *testing.T, want mismatch, ask func(context.Context) error, start lifecycle.Component) {
	t.Helper()
	asked := ask(within(t, 20*time.Second))
	defer func() { _ = start.Stop(context.WithoutCancel(t.Context())) }()
	pooltest.Failed(t, want.failure, map[string]error{"Ask": asked, "Start": start.Start(within(t, 20*time.Second))})
}

// What goes wrong at the first connection is named by a class and in words that say what to change.
// AskPostgres and a pool's start say the same.
func TestAWrongServerInPlaceOfPostgresIsNamed(t *testing.T) { //nolint:tparallel // its cases wait side by side, beside no other test
	ca := testcerts.New(t)
	srv := testserver.Postgres(t)
	pgExec(t, srv, "create role app login")
	pgExec(t, srv, "create role crypt login")
	srv.WriteFile(t, "data/pg_hba.conf", []byte("hostssl all app 127.0.0.1/32 trust clientcert=verify-ca\n"+
		"hostssl all crypt 127.0.0.1/32 trust\nhost all postgres 127.0.0.1/32 trust\n"))
	secure(t, srv, ca)
	file := filepath.Join(t.TempDir(), "ca")
	write(t, file, ca.PEM)
	at := func(addr, user, mode string) string {
		return "postgres://" + user + ":sesame@" + addr + "/postgres?sslmode=" + mode
	}
	for name, tt := range map[string]mismatch{
		"TLS to a server without": {
			url:     at(testserver.SharedPostgres(t).Addr(), "postgres", "require"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "server refused TLS connection", Advice: "the server refuses TLS"},
		},
		"without TLS to a server that demands it": {
			url:     at(srv.Addr(), "crypt", "disable"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "no encryption", Advice: "sslmode=require"},
		},
		"no client certificate": {
			url:     at(srv.Addr(), "app", "require"),
			failure: pooltest.Failure{Kind: health.KindAuthentication, Finding: "requires a valid client certificate", Advice: "set TLSFiles.Cert and TLSFiles.Key, or sslcert"},
		},
		"no entry for the user": {
			url:     at(srv.Addr(), "nobody", "require"),
			failure: pooltest.Failure{Kind: health.KindAuthentication, Finding: "no pg_hba.conf entry", Advice: "add one"},
		},
		"a certificate of an unknown authority": {
			url:     at(srv.Addr(), "crypt", "verify-full"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "unknown authority", Advice: "TLSFiles.CA"},
		},
		"a certificate for another name": {
			url: at(strings.Replace(srv.Addr(), "127.0.0.1", "localhost", 1), "crypt", "verify-full"), files: poolkeeper.TLSFiles{CA: file},
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "wanted to match localhost", Advice: "is for other names"},
		},
		"a port that speaks TLS at once": {
			url:     at(tlsPort(t, ca), "postgres", "disable"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "the server speaks TLS on this port", Advice: "sslnegotiation=direct"},
		},
		"Redis' port": {
			url:     at(testserver.SharedRedis(t).Addr(), "postgres", "disable"),
			failure: pooltest.WrongServer("a Redis", "PostgreSQL"),
		},
		"Redis' port, by TLS": {
			url:     at(testserver.SharedRedis(t).Addr(), "postgres", "require"),
			failure: pooltest.WrongServer("a Redis", "PostgreSQL"),
		},
		"MariaDB's port": {
			url:     at(testserver.SharedMariaDB(t).Addr(), "postgres", "disable"),
			failure: pooltest.WrongServer("a MySQL", "PostgreSQL"),
		},
		"MariaDB's port, by TLS": {
			url:     at(testserver.SharedMariaDB(t).Addr(), "postgres", "prefer"),
			failure: pooltest.WrongServer("a MySQL", "PostgreSQL"),
		},
		"no server": {
			url:     at(testkit.FreeAddr(t), "postgres", "disable"),
			failure: pooltest.Failure{Kind: health.KindRefused, Finding: "connection refused", Advice: "nothing listens"},
		},
		"no such name": {
			url:     at("db.invalid", "postgres", "disable"),
			failure: pooltest.Failure{Kind: health.KindDNS, Finding: "db.invalid", Advice: "does not resolve"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := sqlpool.PostgresConfig{URL: tt.url, TLSFiles: tt.files, DialTimeout: time.Second, Logger: quiet()}
			p, err := sqlpool.NewPostgres(cfg)
			if err != nil {
				t.Fatal(err)
			}
			named(t, tt, func(ctx context.Context) error { _, err := sqlpool.AskPostgres(ctx, cfg); return err }, p)
		})
	}
}

// The same of MySQL and MariaDB.
func TestAWrongServerInPlaceOfMySQLIsNamed(t *testing.T) { //nolint:tparallel // its cases wait side by side, beside no other test
	testkit.Slow(t)
	dir := t.TempDir()
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	write(t, filepath.Join(dir, "server.crt"), cert)
	write(t, filepath.Join(dir, "server.key"), key)
	write(t, filepath.Join(dir, "ca"), ca.PEM)
	srv := testserver.MariaDB(t, "--ssl-cert="+filepath.Join(dir, "server.crt"), "--ssl-key="+filepath.Join(dir, "server.key"),
		"--ssl-ca="+filepath.Join(dir, "ca"))
	mysqlExec(t, srv, "create user app@'127.0.0.1' identified by 'sesame' require x509")
	strict := testserver.MariaDB(t, "--ssl-cert="+filepath.Join(dir, "server.crt"), "--ssl-key="+filepath.Join(dir, "server.key"),
		"--require-secure-transport=on")
	without := testserver.MariaDB(t, "--skip-ssl")
	trusted := poolkeeper.TLSFiles{CA: filepath.Join(dir, "ca")}
	at := func(addr, user, mode string) string { return "mysql://" + user + "@" + addr + "/test?tls=" + mode }
	for name, tt := range map[string]mismatch{
		"TLS to a server without": {
			url:     at(without.Addr(), "root", "true"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "does not support TLS", Advice: "tls=false"},
		},
		"without TLS to a server that demands it": {
			url:     at(strict.Addr(), "root", "false"),
			failure: pooltest.Failure{Kind: health.KindAuthentication, Finding: "Access denied", Advice: "require_secure_transport: set tls=true in URL"},
		},
		"no client certificate": {
			url: at(srv.Addr(), "app:sesame", "true"), files: trusted,
			failure: pooltest.Failure{Kind: health.KindAuthentication, Finding: "Access denied", Advice: "REQUIRE X509: set TLSFiles.Cert"},
		},
		"a certificate of an unknown authority": {
			url:     at(srv.Addr(), "root", "true"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "unknown authority", Advice: "TLSFiles.CA"},
		},
		"a port that speaks TLS at once": {
			url:     at(tlsPort(t, ca), "root", "false"),
			failure: pooltest.Failure{Kind: health.KindTLS, Finding: "the server speaks TLS on this port", Advice: "MySQL negotiates TLS"},
		},
		"Redis' port": {
			url:     at(testserver.SharedRedis(t).Addr(), "root", "false"),
			failure: pooltest.WrongServer("a Redis", "MySQL"),
		},
		"PostgreSQL's port": {
			url:     at(testserver.SharedPostgres(t).Addr(), "root", "true"),
			failure: pooltest.WrongServer("a PostgreSQL", "MySQL"),
		},
		"no server": {
			url:     at(testkit.FreeAddr(t), "root", "false"),
			failure: pooltest.Failure{Kind: health.KindRefused, Finding: "connection refused", Advice: "nothing listens"},
		},
		"no such name": {
			url:     at("db.invalid:3306", "root", "false"),
			failure: pooltest.Failure{Kind: health.KindDNS, Finding: "db.invalid", Advice: "does not resolve"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := sqlpool.MySQLConfig{URL: tt.url, TLSFiles: tt.files, DialTimeout: time.Second, Logger: quiet()}
			p, err := sqlpool.NewMySQL(cfg)
			if err != nil {
				t.Fatal(err)
			}
			named(t, tt, func(ctx context.Context) error { _, err := sqlpool.AskMySQL(ctx, cfg); return err }, p)
		})
	}
}

func TestAskPostgresSaysWhatTheServerIs(t *testing.T) {
	ca := testcerts.New(t)
	srv := testserver.Postgres(t, "idle_session_timeout=600s", "statement_timeout=30s", "max_connections=50")
	secure(t, srv, ca)
	a, err := sqlpool.AskPostgres(within(t, time.Minute), sqlpool.PostgresConfig{
		URL: srv.URL(), TLS: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, MaxOpen: 20, Instances: 12, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	good(t, a, "PostgreSQL", "TLS 1.3")
	if a.Settings["idle_session_timeout"] != "10min" || a.Settings["statement_timeout"] != "30s" || a.Settings["max_connections"] != "50" {
		t.Errorf("settings %v", a.Settings)
	}
	if a.Limits.MaxConnections != 50 || a.Limits.Demand != 15*21 || a.Limits.IdleTimeout != 10*time.Minute || len(a.Limits.Warnings) != 1 {
		t.Errorf("limits %+v", a.Limits)
	}
	eventually(t, "no connection is left", func() bool {
		admin := sqltest.Postgres(t, srv)
		defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
		n := -1
		err := admin.QueryRow(t.Context(), "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").Scan(&n)
		return err == nil && n == 0
	})
}

func TestAskPostgresSeesAPooler(t *testing.T) {
	srv := testserver.PgBouncer(t, testserver.SharedPostgres(t))
	a, err := sqlpool.AskPostgres(within(t, time.Minute), sqlpool.PostgresConfig{URL: srv.URL(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	good(t, a, "PostgreSQL", "")
	if !a.Limits.Pooled || !a.Limits.TransactionMode || !strings.Contains(strings.Join(a.LeftOut, "\n"), "the pooler's own limits") {
		t.Errorf("%+v", a)
	}
}

func TestAskMySQLSaysWhatTheServerIs(t *testing.T) {
	dir := t.TempDir()
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	write(t, filepath.Join(dir, "crt"), cert)
	write(t, filepath.Join(dir, "key"), key)
	srv := testserver.MariaDB(t, "--ssl-cert="+filepath.Join(dir, "crt"), "--ssl-key="+filepath.Join(dir, "key"), "--wait-timeout=60")
	a, err := sqlpool.AskMySQL(within(t, time.Minute), sqlpool.MySQLConfig{
		URL: srv.DSN(), TLS: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, Instances: 12, MaxOpen: 20, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	good(t, a, "MariaDB", "TLS 1.3")
	if a.Settings["wait_timeout"] != "60" || a.Settings["max_user_connections"] != "0" || a.Settings["interactive_timeout"] == "" {
		t.Errorf("settings %v", a.Settings)
	}
	if a.Limits.MaxConnections == 0 || a.Limits.Demand != 15*21 || len(a.Limits.Warnings) != 1 {
		t.Errorf("limits %+v", a.Limits)
	}
}

// good checks what every answer has.
func good(t *testing.T, a sqlpool.Answer, server, version string) {
	t.Helper()
	l := a.Latency
	if l.Connect <= 0 || (l.TLS > 0) != (version != "") || l.Login <= 0 || l.PingP50 <= 0 || l.PingP99 < l.PingP50 || l.Pings == 0 {
		t.Errorf("latency %+v", l)
	}
	if a.Server != server || !strings.Contains(a.Version, ".") || a.TLS != version {
		t.Errorf("%+v", a.ServerInfo)
	}
	if version != "" && (len(a.Certificates) == 0 || a.Certificates[0].Subject != "127.0.0.1" || a.Certificates[0].NotAfter.Before(time.Now())) {
		t.Errorf("certificates %+v", a.Certificates)
	}
}

// A handshake that fails over its certificate still tells until when that is valid.
func TestAskTellsTheExpiryOfACertificateItDoesNotTrust(t *testing.T) {
	srv := testserver.Postgres(t)
	secure(t, srv, testcerts.New(t))
	a, err := sqlpool.AskPostgres(within(t, time.Minute), sqlpool.PostgresConfig{
		URL: srv.URL(), TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, Logger: quiet(),
	})
	if health.Classify(err).Kind != health.KindTLS || len(a.Certificates) == 0 || a.Certificates[0].Subject != "127.0.0.1" {
		t.Errorf("%v: %+v", err, a)
	}
}

func TestAskedServerThatIsFull(t *testing.T) {
	srv := testserver.Postgres(t, "max_connections=4", "superuser_reserved_connections=3")
	pgExec(t, srv, "create role app login")
	url := strings.Replace(srv.URL(), "postgres@", "app@", 1)
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, MaxOpen: 1, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Stop(context.WithoutCancel(t.Context())) }()
	var c *pgxpool.Conn
	eventually(t, "the session that made the role is gone", func() bool {
		c, err = p.Pool().Acquire(t.Context())
		return err == nil
	})
	defer c.Release()
	_, err = sqlpool.AskPostgres(within(t, time.Minute), sqlpool.PostgresConfig{URL: url, Logger: quiet()})
	if k := health.Classify(err).Kind; k != health.KindTooManyConnections {
		t.Errorf("%v: %s", err, k)
	}
}
