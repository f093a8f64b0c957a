package redispool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// redisBehind starts a Redis whose TLS port demands certificates of clients if demands. It returns
// that port's address, and the files of a client.
func redisBehind(t *testing.T, k *pki, demands string) (plain, secure string) {
	t.Helper()
	secure = freeAddr(t)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	return testserver.Redis(t, "--tls-port", port, "--tls-auth-clients", demands, "--tls-ca-cert-file", k.path("client.ca"),
		"--tls-cert-file", k.path("server1.crt"), "--tls-key-file", k.path("server1.key")).Addr(), secure
}

// What goes wrong at the first connection is named by a class and in words that say what to change.
// Ask and a pool's start say the same.
func TestAWrongServerIsNamed(t *testing.T) { //nolint:tparallel // its cases wait side by side, beside no other test
	k := newPKI(t)
	plain, secure := redisBehind(t, k, "no")
	_, mutual := redisBehind(t, k, "yes")
	stranger := testcerts.New(t).Pair(t, "client")
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	trusted := poolkeeper.TLSFiles{CA: k.path("all")}
	for name, tt := range map[string]struct {
		cfg     redispool.Config
		failure pooltest.Failure
	}{
		"TLS to a plain port": {
			redispool.Config{URL: "rediss://" + plain},
			pooltest.Failure{Kind: health.KindTLS, Finding: "the server answers without TLS on this port", Advice: "use redis:// in URL"},
		},
		"plain to a TLS port": {
			redispool.Config{URL: "redis://" + secure},
			pooltest.Failure{Kind: health.KindTLS, Finding: "the server speaks TLS on this port", Advice: "use rediss:// in URL"},
		},
		"a certificate of an unknown authority": {
			redispool.Config{URL: "rediss://" + secure},
			pooltest.Failure{Kind: health.KindTLS, Finding: "signed by unknown authority", Advice: "trust it (TLSFiles.CA)"},
		},
		"a certificate for another name": {
			redispool.Config{URL: "rediss://" + strings.Replace(secure, "127.0.0.1", "localhost", 1), TLSFiles: trusted},
			pooltest.Failure{Kind: health.KindTLS, Finding: "wanted to match localhost", Advice: "is for other names"},
		},
		"no client certificate": {
			redispool.Config{URL: "rediss://" + mutual, TLSFiles: trusted},
			pooltest.Failure{Kind: health.KindAuthentication, Finding: "tls: certificate required", Advice: "the server demands a client certificate"},
		},
		"a client certificate of another authority": {
			redispool.Config{
				URL: "rediss://" + mutual, TLSFiles: trusted,
				TLS: &tls.Config{
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil },
					MinVersion:           tls.VersionTLS12,
				},
			},
			pooltest.Failure{Kind: health.KindAuthentication, Finding: "tls: unknown certificate authority", Advice: "rejects the client certificate"},
		},
		"PostgreSQL's port": {
			redispool.Config{URL: "redis://" + testserver.SharedPostgres(t).Addr()},
			pooltest.WrongServer("a PostgreSQL", "Redis"),
		},
		"PostgreSQL's port, by TLS": {
			redispool.Config{URL: "rediss://" + testserver.SharedPostgres(t).Addr()},
			pooltest.WrongServer("a PostgreSQL", "Redis"),
		},
		"MariaDB's port": {
			redispool.Config{URL: "redis://" + testserver.SharedMariaDB(t).Addr()},
			pooltest.WrongServer("a MySQL", "Redis"),
		},
		"MariaDB's port, by TLS": {
			redispool.Config{URL: "rediss://" + testserver.SharedMariaDB(t).Addr()},
			pooltest.WrongServer("a MySQL", "Redis"),
		},
		"a web server": {
			redispool.Config{URL: "redis://" + web.Listener.Addr().String()},
			pooltest.WrongServer("an HTTP", "Redis"),
		},
		"no server": {
			redispool.Config{URL: "redis://" + freeAddr(t)},
			pooltest.Failure{Kind: health.KindRefused, Finding: "connection refused", Advice: "nothing listens"},
		},
		"no such name": {
			redispool.Config{URL: "redis://redis.invalid"},
			pooltest.Failure{Kind: health.KindDNS, Finding: "redis.invalid", Advice: "does not resolve"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := tt.cfg
			cfg.DialTimeout, cfg.ReadTimeout, cfg.Logger = time.Second, time.Second, silent()
			_, asked := redispool.Ask(within(t, patience), cfg)
			p := newPool(t, cfg)
			started := p.Start(within(t, patience))
			pooltest.Failed(t, tt.failure, map[string]error{"Ask": asked, "Start": started})
		})
	}
}

// A frozen server is not taken for a wrong one, and costs no more than the time that Ask has.
func TestAFrozenServerIsATimeout(t *testing.T) {
	srv := testserver.Redis(t)
	srv.Freeze(t)
	defer srv.Thaw(t)
	for _, scheme := range []string{"redis://", "rediss://"} {
		_, err := redispool.Ask(within(t, patience), redispool.Config{
			URL: scheme + srv.Addr(), DialTimeout: 200 * time.Millisecond, ReadTimeout: 200 * time.Millisecond, Logger: silent(),
		})
		if k := health.Classify(err).Kind; k != health.KindTimeout {
			t.Errorf("%s: %v: %s", scheme, err, k)
		}
	}
}

func TestAskSaysWhatTheServerIs(t *testing.T) {
	k := newPKI(t)
	plain, secure := redisBehind(t, k, "no")
	cfg := redispool.Config{
		URL: "rediss://" + secure, TLSFiles: poolkeeper.TLSFiles{CA: k.path("all")}, MaxOpen: 20, Instances: 12, Logger: silent(),
	}
	a, err := redispool.Ask(within(t, patience), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a.Server != "Redis" || !strings.Contains(a.Version, ".") || a.TLS != "TLS 1.3" || len(a.LeftOut) != 0 {
		t.Errorf("%+v", a.ServerInfo)
	}
	if len(a.Certificates) != 2 || a.Certificates[1].Kind != poolkeeper.ExpiryCA || a.Certificates[0].Kind != poolkeeper.ExpiryServerCertificate ||
		a.Certificates[0].Subject != "127.0.0.1" || a.Certificates[0].NotAfter.Before(time.Now()) {
		t.Errorf("certificates %+v", a.Certificates)
	}
	l := a.Latency
	if l.Connect <= 0 || l.TLS <= 0 || l.Login <= 0 || l.PingP50 <= 0 || l.PingP99 < l.PingP50 || l.Pings == 0 {
		t.Errorf("latency %+v", l)
	}
	if a.Settings["maxclients"] != "10000" || a.Settings["timeout"] != "0" || a.Settings["tcp-keepalive"] != "300" {
		t.Errorf("settings %v", a.Settings)
	}
	if a.Limits.MaxConnections != 10000 || a.Limits.Demand != 15*21 {
		t.Errorf("limits %+v", a.Limits)
	}
	if n := len(clients(t, admin(t, plain))); n > 1 {
		t.Errorf("%d connections are left", n)
	}
}

// What the user may not ask is named, and is no failure.
func TestAskNamesWhatItMayNotAsk(t *testing.T) {
	srv := testserver.Redis(t, "--user", "app", "on", ">sesame", "~*", "+get")
	a, err := redispool.Ask(within(t, patience), redispool.Config{URL: "redis://app:sesame@" + srv.Addr(), Logger: silent()})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(a.LeftOut, "\n")
	for _, want := range []string{"INFO server", "INFO clients", "CONFIG GET timeout", "CONFIG GET tcp-keepalive"} {
		if !strings.Contains(all, want) {
			t.Errorf("left out is %q, without %s", all, want)
		}
	}
	if a.Latency.Pings == 0 || a.Limits.Demand == 0 {
		t.Errorf("%+v", a)
	}
}

// A failed login still says what came before it.
func TestAskSaysHowFarItCame(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "sesame")
	a, err := redispool.Ask(within(t, patience), redispool.Config{URL: "redis://:simsalabim@" + srv.Addr(), Logger: silent()})
	if k := health.Classify(err).Kind; k != health.KindAuthentication || strings.Contains(err.Error(), "simsalabim") {
		t.Errorf("%v: %s", err, k)
	}
	if a.Latency.Connect <= 0 || a.Latency.Pings != 0 || a.Limits.Demand == 0 {
		t.Errorf("%+v", a)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	gone := testkit.NewProxy(t, freeAddr(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := redispool.Ask(ctx, redispool.Config{URL: "redis://" + gone.Addr(), Logger: silent()})
	if err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Of a Cluster and behind Sentinel it is the servers that are described, not the sentinels.
func TestAskOfTopologies(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 2, 0)
	s := newSentinels(t)
	for name, o := range map[string]*redis.UniversalOptions{
		"cluster": k.options(), "sentinel": {Addrs: s.addrs, MasterName: "shop"},
	} {
		a, err := redispool.Ask(within(t, patience), redispool.Config{Options: o, Logger: silent()})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l := a.Latency
		if a.Server != "Redis" || a.Version == "" || l.Connect <= 0 || l.Login <= 0 || l.Pings == 0 || a.Settings["maxclients"] == "" {
			t.Errorf("%s: %+v", name, a.ServerInfo)
		}
		if a.Limits.MaxConnections == 0 || (a.Limits.Node != "") != (name == "cluster") || len(a.LeftOut) != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if _, err := redispool.Ask(within(t, patience), redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{testserver.SharedPostgres(t).Addr()}, IsClusterMode: true}, Logger: silent(),
	}); health.Classify(err).Kind != health.KindProtocol {
		t.Errorf("a Cluster at PostgreSQL's port: %v (%s)", err, health.Classify(err).Kind)
	}
}
