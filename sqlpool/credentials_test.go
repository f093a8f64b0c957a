package sqlpool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
)

// underLoad has callers query without a pause until end is called. Not one query may fail.
func underLoad(t *testing.T, callers int, query func(context.Context) error) (end func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := query(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// renews fills the pool, changes something, and waits until every connection has been replaced,
// while queries run.
func renews(t *testing.T, p interface{ Stats() poolkeeper.Stats }, query func(context.Context) error, change func()) {
	t.Helper()
	end := underLoad(t, 4, query)
	defer end()
	eventually(t, "the pool is full: no dial comes between the server's change and the pool's", func() bool { return p.Stats().Open == 4 })
	change()
	eventually(t, "every connection has been replaced", func() bool { st := p.Stats(); return st.Evicted["reload"] >= 4 && st.Open >= 1 })
}

// scram makes PostgreSQL want a password of the role app, "first".
func scram(t *testing.T) *testserver.Server {
	t.Helper()
	srv := testserver.Postgres(t)
	pgExec(t, srv, "create role app login password 'first'")
	srv.WriteFile(t, "data/pg_hba.conf", []byte("host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"))
	pgExec(t, srv, "select pg_reload_conf()")
	return srv
}

func asApp(srv *testserver.Server) string { return strings.Replace(srv.URL(), "postgres@", "app@", 1) }

func TestPostgresPasswordInAFileIsRenewedWithoutAFailedQuery(t *testing.T) {
	srv := scram(t)
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("first\n"))
	log, logged := logTo()
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: asApp(srv), CredentialsFile: file, FileInterval: 50 * time.Millisecond, MaxOpen: 4, MinIdle: 4, Logger: log,
		AcquireTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	renews(t, p, func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err }, func() {
		write(t, file, []byte("second")) // before the server knows of it: the old one stays in use
		eventually(t, "it is not accepted", func() bool { return strings.Contains(logged(), "the old is kept") })
		if n := p.Stats().Evicted["reload"]; n != 0 {
			t.Errorf("%d connections were given up for a password that the server does not accept", n)
		}
		pgExec(t, srv, "alter role app password 'second'")
	})
	if text := logged(); strings.Contains(text, "first") || strings.Contains(text, "second") || !strings.Contains(text, "CredentialsFile=") {
		t.Errorf("the log has\n%s", text)
	}
	stop(t, p)
}

// A login that fails has the file looked at, long before its time.
func TestPostgresFailedLoginHasTheFileLookedAt(t *testing.T) {
	srv := scram(t)
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("first"))
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: asApp(srv), CredentialsFile: file, FileInterval: time.Hour, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgExec(t, srv, "alter role app password 'second'")
	write(t, file, []byte("second"))
	p.Pool().Reset()
	if err := p.Pool().Ping(t.Context()); sqlpool.Classify(err).Kind != health.KindAuthentication {
		t.Errorf("the first dial with the old password: %v", err)
	}
	eventually(t, "the new password is used", func() bool { return p.Pool().Ping(t.Context()) == nil })
	stop(t, p)
}

func TestMySQLPasswordInAFileIsRenewedWithoutAFailedQuery(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.MariaDB(t)
	mysqlExec(t, srv, "create user app identified by 'first'", "grant all on *.* to app")
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("app:first\n"))
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{
		CredentialsFile: file, FileInterval: 50 * time.Millisecond, MaxOpen: 4, MinIdle: 4, Logger: quiet(),
		AcquireTimeout: 30 * time.Second,
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	renews(t, p, func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "do 1"); return err }, func() {
		mysqlExec(t, srv, "alter user app identified by 'second'")
		write(t, file, []byte("app:second\n"))
	})
	stop(t, p)
}

// secure makes PostgreSQL speak TLS, with a certificate of ca's. It may be called again.
func secure(t *testing.T, srv *testserver.Server, ca *testcerts.Authority) {
	t.Helper()
	cert, key := ca.Leaf(t, "127.0.0.1")
	for setting, path := range map[string]string{
		"ssl_cert_file": srv.WriteFile(t, "server.crt", cert),
		"ssl_key_file":  srv.WriteFile(t, "server.key", key),
		"ssl_ca_file":   srv.WriteFile(t, "ca.crt", ca.PEM),
	} {
		pgExec(t, srv, fmt.Sprintf("alter system set %s = '%s'", setting, path))
	}
	pgExec(t, srv, "alter system set ssl = on")
	pgExec(t, srv, "select pg_reload_conf()")
	eventually(t, "the server speaks TLS", func() bool {
		admin := sqltest.Postgres(t, srv)
		defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
		var on string
		return admin.QueryRow(t.Context(), "show ssl").Scan(&on) == nil && on == "on"
	})
}

// The authority, the server's certificate and the client's are all replaced.
func TestPostgresCertificatesAreRenewedWithoutAFailedQuery(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	pgExec(t, srv, "create role app login")
	srv.WriteFile(t, "data/pg_hba.conf", []byte("hostssl all app 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 trust\n"))
	dir := t.TempDir()
	files := poolkeeper.TLSFiles{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	issue := func() {
		ca := testcerts.New(t)
		secure(t, srv, ca)
		cert, key := ca.Leaf(t, "app")
		write(t, files.CA, ca.PEM)
		write(t, files.Key, key)
		write(t, files.Cert, cert) // until this moment the pair does not fit, and is not used
	}
	issue()
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: asApp(srv), TLSFiles: files, FileInterval: 50 * time.Millisecond, MaxOpen: 4, MinIdle: 4, Logger: quiet(),
		AcquireTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	serial := func() (s string) {
		if err := p.Pool().QueryRow(t.Context(), "select client_serial::text from pg_stat_ssl where pid = pg_backend_pid()").Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := serial()
	renews(t, p, func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err }, issue)
	if after := serial(); after == before || before == "" {
		t.Errorf("the client's certificate was %s and is %s", before, after)
	}
	stop(t, p)
}

func TestMySQLCertificatesAreRenewedWithoutAFailedQuery(t *testing.T) {
	testkit.Slow(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	files := poolkeeper.TLSFiles{CA: at("ca"), Cert: at("cert"), Key: at("key")}
	issue := func() {
		ca := testcerts.New(t)
		cert, key := ca.Leaf(t, "127.0.0.1")
		write(t, at("server.crt"), cert)
		write(t, at("server.key"), key)
		write(t, files.CA, ca.PEM)
		cert, key = ca.Leaf(t, "app")
		write(t, files.Key, key)
		write(t, files.Cert, cert)
	}
	issue()
	srv := testserver.MariaDB(t, "--ssl-cert="+at("server.crt"), "--ssl-key="+at("server.key"), "--ssl-ca="+files.CA)
	mysqlExec(t, srv, "create user app require x509", "grant all on *.* to app")
	p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{
		URL: "mysql://app@" + srv.Addr() + "/test", TLSFiles: files, FileInterval: 50 * time.Millisecond, MaxOpen: 4, MinIdle: 4,
		Logger: quiet(), AcquireTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	renews(t, p, func(ctx context.Context) error { _, err := p.DB().ExecContext(ctx, "do 1"); return err }, func() {
		issue()
		mysqlExec(t, srv, "flush ssl")
	})
	var name, cipher string
	if err := p.DB().QueryRowContext(t.Context(), "show status like 'Ssl_cipher'").Scan(&name, &cipher); err != nil || cipher == "" {
		t.Errorf("cipher %q: %v", cipher, err)
	}
	stop(t, p)
}

// Config.TLS is used in place of what URL says, with the host as the server's name, and what the
// server shows is verified. A session that is ended is found out before its next use here too,
// where what the server says is hidden.
func TestPostgresTLS(t *testing.T) {
	srv := testserver.Postgres(t)
	ca := testcerts.New(t)
	secure(t, srv, ca)
	p, onServer := pgFor(t, srv, sqlpool.PostgresConfig{MaxOpen: 10, Logger: quiet(), TLS: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var on bool
	if err := p.Pool().QueryRow(t.Context(), "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&on); err != nil || !on {
		t.Errorf("TLS %v: %v", on, err)
	}
	if lost := lostByTermination(t, srv, p, onServer); lost > 0 {
		t.Errorf("%d queries were lost to sessions that had ended", lost)
	}
	stop(t, p)
	p, _ = pgFor(t, srv, sqlpool.PostgresConfig{Logger: quiet(), TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}})
	if err := p.Start(t.Context()); health.Classify(err).Kind != health.KindTLS {
		t.Errorf("a certificate of nobody we trust: %v (%s)", err, health.Classify(err).Kind)
	}
}

func TestMySQLTLS(t *testing.T) {
	testkit.Slow(t)
	dir := t.TempDir()
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	write(t, filepath.Join(dir, "server.crt"), cert)
	write(t, filepath.Join(dir, "server.key"), key)
	srv := testserver.MariaDB(t, "--ssl-cert="+filepath.Join(dir, "server.crt"), "--ssl-key="+filepath.Join(dir, "server.key"))
	p, _ := mysqlFor(t, srv, sqlpool.MySQLConfig{Logger: quiet(), TLS: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var name, cipher string
	if err := p.DB().QueryRowContext(t.Context(), "show status like 'Ssl_cipher'").Scan(&name, &cipher); err != nil || cipher == "" {
		t.Errorf("cipher %q: %v", cipher, err)
	}
	stop(t, p)
	p, _ = mysqlFor(t, srv, sqlpool.MySQLConfig{Logger: quiet(), TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}})
	if err := p.Start(t.Context()); health.Classify(err).Kind != health.KindTLS {
		t.Errorf("a certificate of nobody we trust: %v (%s)", err, health.Classify(err).Kind)
	}
}

// A function's answer is noticed at the next dial. If it stays, the old connections go; if every
// answer is another, as with tokens, they stay.
func TestPostgresAnswersOfCredentialsThatChange(t *testing.T) {
	testkit.Slow(t)
	for name, tokens := range map[string]bool{"a new password": false, "tokens": true} {
		t.Run(name, func(t *testing.T) {
			var password atomic.Int64
			p, _ := startPG(t, sqlpool.PostgresConfig{ // the server trusts every client
				MaxOpen: 4, Logger: quiet(),
				Credentials: func(context.Context) (string, string, error) {
					if tokens {
						return "", fmt.Sprint("token", password.Add(1)), nil
					}
					return "", fmt.Sprint("password", password.Load()), nil
				},
			})
			if err := p.Pool().Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tokens {
				password.Add(1)
			}
			a, err := p.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Pool().Ping(t.Context()); err != nil { // dials
				t.Fatal(err)
			}
			a.Release()
			asked := password.Load()
			if tokens {
				eventually(t, "it has been asked again", func() bool { return password.Load() > asked })
				_ = p.Pool().Ping(t.Context())
				if n := p.Stats().Evicted["reload"]; n != 0 {
					t.Errorf("%d connections were replaced because of a new token", n)
				}
			} else {
				eventually(t, "both are replaced", func() bool { return p.Stats().Evicted["reload"] == 2 })
			}
			stop(t, p)
		})
	}
}

func TestPostgresPassfileAndServiceFileGoOnWorking(t *testing.T) {
	testkit.Slow(t)
	srv := scram(t)
	host, port, _ := strings.Cut(srv.Addr(), ":")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pgpass"), []byte(host+":"+port+":*:app:first\n"))
	write(t, filepath.Join(dir, "services"), []byte("[shop]\nhost="+host+"\nport="+port+"\nuser=app\ndbname=postgres\nsslmode=disable\n"))
	t.Setenv("PGPASSFILE", filepath.Join(dir, "pgpass"))
	t.Setenv("PGSERVICEFILE", filepath.Join(dir, "services"))
	for what, url := range map[string]string{
		"a URL":         asApp(srv),
		"keys":          "host=" + host + " port=" + port + " user=app dbname=postgres sslmode=disable",
		"a service":     "service=shop",
		"a service URL": "postgres://?service=shop",
	} {
		p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, Logger: quiet()})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var user string
		if err := p.Pool().QueryRow(t.Context(), "select current_user").Scan(&user); err != nil || user != "app" {
			t.Errorf("%s: %q, %v", what, user, err)
		}
		stop(t, p)
	}
}

func TestFilesThatCannotBeUsedAreFaults(t *testing.T) {
	creds := func(context.Context) (string, string, error) { return "", "", nil }
	for kind, err := range map[string]error{
		"postgres": second(sqlpool.NewPostgres(sqlpool.PostgresConfig{TLSFiles: poolkeeper.TLSFiles{CA: "/nowhere"}, CredentialsFile: "/nowhere", Credentials: creds})),
		"mysql":    second(sqlpool.NewMySQL(sqlpool.MySQLConfig{TLSFiles: poolkeeper.TLSFiles{CA: "/nowhere"}, CredentialsFile: "/nowhere", Credentials: creds})),
	} {
		for _, want := range []string{"sqlpool: TLSFiles.CA: ", "sqlpool: CredentialsFile: ", "Credentials and CredentialsFile are both set"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q", kind, err, want)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }
