package sqlpool_test

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

var (
	_ lifecycle.ExpiryProvider = (*sqlpool.Postgres)(nil)
	_ lifecycle.ExpiryProvider = (*sqlpool.MySQL)(nil)
)

var soonAll = []string{
	"WARN the client certificate expires soon; renew it",
	"WARN the server's certificate expires soon; renew it",
}

// issueUntil writes a client's and a server's certificate of a new authority, which expire then.
func issueUntil(t *testing.T, files poolkeeper.TLSFiles, serverCert, serverKey string, until time.Time) {
	t.Helper()
	ca := testcerts.New(t)
	cert, key := ca.LeafUntil(t, "127.0.0.1", until)
	write(t, serverKey, key)
	write(t, serverCert, cert)
	write(t, files.CA, ca.PEM)
	cert, key = ca.LeafUntil(t, "app", until)
	write(t, files.Key, key)
	write(t, files.Cert, cert)
}

var (
	soon  = time.Now().Add(10 * 24 * time.Hour)
	later = time.Now().Add(60 * 24 * time.Hour)
)

// clientTLS presents client, and trusts ca.
func clientTLS(ca *testcerts.Authority, client tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12}
}

func TestMySQLTellsWhenItsCertificatesExpire(t *testing.T) {
	testkit.Slow(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	files := poolkeeper.TLSFiles{CA: at("ca"), Cert: at("cert"), Key: at("key")}
	issueUntil(t, files, at("server.crt"), at("server.key"), soon)
	srv := testserver.MariaDB(t, "--ssl-cert="+at("server.crt"), "--ssl-key="+at("server.key"), "--ssl-ca="+files.CA)
	mysqlExec(t, srv, "create user app require x509", "grant all on *.* to app")
	p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{
		URL: "mysql://app@" + srv.Addr() + "/test", TLSFiles: files, FileInterval: 50 * time.Millisecond, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	hasExpiries(t, "before a handshake", p, "ca test authority", "client-certificate app")
	log := subscribed(p)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := []string{"ca test authority", "client-certificate app", "server-certificate 127.0.0.1"}
	hasExpiries(t, "after a handshake", p, all...)
	for range 3 {
		if err := p.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := log.Expiries(); !slices.Equal(got, soonAll) {
		t.Errorf("warned of %q, want %q", got, soonAll)
	}
	issueUntil(t, files, at("server.crt"), at("server.key"), later)
	mysqlExec(t, srv, "flush ssl")
	eventually(t, "the renewed certificates are in effect", func() bool { return len(log.Of(poolkeeper.EventRenewed)) == 1 })
	for _, e := range p.Expiries() {
		if e.NotAfter.Before(later.Add(-time.Minute)) {
			t.Errorf("still known after its renewal: %+v", e)
		}
	}
	if got := log.Expiries(); !slices.Equal(got, soonAll) {
		t.Errorf("after the renewal %q", got)
	}
	stop(t, p)
}

func TestPostgresTellsWhenItsCertificatesExpire(t *testing.T) {
	testkit.Slow(t)
	srv := testserver.Postgres(t)
	pgExec(t, srv, "create role app login")
	srv.WriteFile(t, "data/pg_hba.conf", []byte("hostssl all app 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 trust\n"))
	ca := testcerts.New(t)
	secure(t, srv, ca)
	client := ca.PairUntil(t, "app", soon)
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		URL: asApp(srv), TLS: clientTLS(ca, client), Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	// A pool of authorities does not tell what it holds.
	hasExpiries(t, "before a handshake", p, "client-certificate app")
	log := subscribed(p)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := []string{"ca test authority", "client-certificate app", "server-certificate 127.0.0.1"}
	hasExpiries(t, "after a handshake", p, all...)
	if _, err := p.Pool().Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	if got := log.Expiries(); !slices.Equal(got, soonAll[:1]) {
		t.Errorf("warned of %q, want %q", got, soonAll[:1])
	}
	if e := log.Of(poolkeeper.EventExpiry)[0]; e.Pool != "postgres" || e.Level != slog.LevelWarn || len(e.Attrs) != 4 {
		t.Errorf("%+v", e)
	}

	// A Reload that is refused changes nothing.
	other := testcerts.New(t)
	if err := p.Reload(t.Context(), sqlpool.PostgresConfig{URL: asApp(srv), TLS: clientTLS(other, other.Pair(t, "app")), Logger: quiet()}); err == nil {
		t.Error("a Reload with an authority that the server does not have")
	}
	hasExpiries(t, "after a Reload that was refused", p, all...)
	stop(t, p)
}

func TestPostgresTellsWhenItsPasswordExpires(t *testing.T) {
	srv := testserver.SharedPostgres(t)
	for valid, want := range map[string]string{
		"valid until '2000-01-01 00:00:00+00'": "ERROR the password has expired: new connections fail; renew it",
		"valid until 'infinity'":               "",
		"":                                     "",
	} {
		role := strings.ToLower("expiry" + strings.NewReplacer(" ", "", "'", "", ":", "", "-", "", "+", "").Replace(valid))
		pgExec(t, srv, "drop role if exists "+role)
		pgExec(t, srv, "create role "+role+" login password 'secret' "+valid) // the server trusts this machine
		p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
			URL: strings.Replace(srv.URL(), "postgres@", role+":secret@", 1), Logger: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		log := subscribed(p)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(log.Expiries(), "; ")
		if got != want || (len(p.Expiries()) == 1) != (want != "") {
			t.Errorf("%q: %q, want %q; known: %v", valid, got, want, p.Expiries())
		}
		stop(t, p)
		pgExec(t, srv, "drop role "+role)
	}
}
