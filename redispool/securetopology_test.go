package redispool_test

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// pki is a directory of certificates by two authorities, of which the second is to replace the
// first, and a third that stays.
type pki struct {
	dir                  string
	first, second, fixed *testcerts.Authority
}

func newPKI(tb testing.TB) *pki {
	tb.Helper()
	k := &pki{dir: tb.TempDir(), first: testcerts.New(tb), second: testcerts.New(tb), fixed: testcerts.New(tb)}
	k.issue(tb, k.first, "server1")
	k.issue(tb, k.second, "server2")
	k.issue(tb, k.fixed, "sentinel")
	k.issue(tb, k.first, "client")
	k.trust(tb, "all", k.first, k.second, k.fixed)
	k.trust(tb, "old", k.first, k.fixed)
	k.trust(tb, "new", k.second, k.fixed)
	k.trust(tb, "client.ca", k.first, k.fixed)
	return k
}

func (k *pki) path(name string) string { return filepath.Join(k.dir, name) }

// issue writes a certificate for 127.0.0.1 and its key, the key first. A reader in between gets two
// that do not fit.
func (k *pki) issue(tb testing.TB, by *testcerts.Authority, name string) {
	tb.Helper()
	cert, key := by.Leaf(tb, "127.0.0.1")
	write(tb, k.path(name+".key"), key)
	write(tb, k.path(name+".crt"), cert)
}

// trust writes a file of authorities.
func (k *pki) trust(tb testing.TB, name string, authorities ...*testcerts.Authority) {
	tb.Helper()
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.PEM...)
	}
	write(tb, k.path(name), bundle)
}

// client is what a pool reads.
func (k *pki) client() poolkeeper.TLSFiles {
	return poolkeeper.TLSFiles{CA: k.path("client.ca"), Cert: k.path("client.crt"), Key: k.path("client.key")}
}

// server is the command line of one that speaks TLS at addr, also to its like, and wants to see
// certificates.
func (k *pki) server(tb testing.TB, addr, cert string) []string {
	tb.Helper()
	return []string{
		"--tls-port", portIn(tb, addr), "--tls-auth-clients", "yes", "--tls-replication", "yes",
		"--tls-ca-cert-file", k.path("all"), "--tls-cert-file", k.path(cert + ".crt"), "--tls-key-file", k.path(cert + ".key"),
	}
}

func portIn(tb testing.TB, addr string) string {
	tb.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// renewEverything replaces the authority of the servers and of the client, step by step, as one
// should, and has all connections be replaced at each step that concerns the client. looks are for
// the servers that the pool has connections to.
func (k *pki) renewEverything(t *testing.T, looks []*redis.Client) {
	t.Helper()
	step := func(what string, change func()) {
		t.Helper()
		newest := make([]int64, len(looks))
		for i, look := range looks {
			newest[i] = latestID(t, look)
		}
		change()
		for i, look := range looks {
			eventually(t, what, func() bool { return oldConns(t, look, newest[i]) == 0 && len(pools(t, look)) > 0 })
		}
	}
	servers := func(trusted, cert string) {
		t.Helper()
		for _, look := range looks {
			do(t, look, strings.Join([]string{
				"config set tls-ca-cert-file", k.path(trusted), "tls-cert-file", k.path(cert + ".crt"), "tls-key-file", k.path(cert + ".key"),
			}, " "))
		}
	}
	step("trust in both authorities", func() { k.trust(t, "client.ca", k.first, k.second, k.fixed) })
	servers("all", "server2")
	step("a certificate by the second", func() { k.issue(t, k.second, "client") })
	servers("new", "server2") // a client's certificate by the first is refused now
	step("trust in the second only", func() { k.trust(t, "client.ca", k.second, k.fixed) })
}

// staysOutOfUse has a certificate on disk that the servers refuse, and looks whether it is used for
// anything.
func (k *pki) staysOutOfUse(t *testing.T, p *redispool.Pool, out *testkit.Log, load *traffic) {
	t.Helper()
	k.issue(t, k.first, "client")
	eventually(t, "it is tried before it is used", func() bool {
		return strings.Contains(out.String(), "does not accept it, and the old is kept")
	})
	p.Reset()
	before := load.done.Load()
	eventually(t, "traffic goes on", func() bool { return load.done.Load() > before+100 })
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// newSecureCluster starts one whose nodes speak TLS to each other and, at secure, to clients, whose
// certificates they want to see. The looks go by plain text.
func newSecureCluster(t *testing.T, k *pki, primaries, replicas int) (c *cluster, secure []string) {
	t.Helper()
	c = newClusterOf(t, primaries, replicas, func() []string {
		addr := freeAddr(t)
		secure = append(secure, addr)
		return append(k.server(t, addr, "server1"), "--tls-cluster", "yes")
	})
	return c, secure
}

func TestClusterBehindMutualTLSIsManagedAndRenewed(t *testing.T) { // INV-7, INV-8, INV-9
	testkit.Slow(t)
	k := newPKI(t)
	c, secure := newSecureCluster(t, k, 2, 1)
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: secure[:1], IsClusterMode: true, ClientName: "p", MaxRetries: -1, MaxRedirects: -1},
		MaxOpen: 20, MinIdle: 2, MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
		TLSFiles: k.client(), FileInterval: 20 * time.Millisecond, Logger: out.Logger(),
	})
	keys := []string{c.keyAt(t, 0), c.keyAt(t, 1)}
	for i := range keys {
		if err := p.Client().Set(t.Context(), keys[i]+"x", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if s := p.Stats(); s.Open == 0 || s.DialErrors != 0 {
		t.Errorf("%+v", s)
	}
	for i, look := range c.looks[:2] {
		togetherAt(t, look, p.Client(), 10, keys[i])
		eventually(t, "the surplus is gone", func() bool { return len(pools(t, look)) <= 2+1 }) // and the check's
	}
	load := lightTraffic(t, p.Client(), 6, keys...)
	k.renewEverything(t, c.looks)
	k.staysOutOfUse(t, p, &out, load)
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed, without retries", n)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if n := c.seen(t, "p"); n != 0 {
		t.Errorf("the servers still see %d connections", n)
	}
}

func TestSentinelBehindMutualTLSIsManagedAndRenewed(t *testing.T) { // INV-7, INV-8, INV-9
	testkit.Slow(t)
	k := newPKI(t)
	s := newSecureSentinels(t, k)
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: s.addrs, MasterName: "shop", ClientName: "p", MaxRetries: -1},
		MaxOpen: 20, MinIdle: 2, MaxIdleTime: 300 * time.Millisecond, EvictionInterval: 20 * time.Millisecond,
		TLSFiles: k.client(), FileInterval: 20 * time.Millisecond, Logger: out.Logger(),
	})
	look := admin(t, s.primary.Addr())
	together(t, look, p.Client(), 10)
	eventually(t, "the surplus is gone", func() bool { return len(pools(t, look)) == 2+1 }) // and the check's
	load := lightTraffic(t, p.Client(), 6)
	k.renewEverything(t, []*redis.Client{look})
	do(t, admin(t, s.replica.Addr()), "config set tls-ca-cert-file "+k.path("new")+
		" tls-cert-file "+k.path("server2.crt")+" tls-key-file "+k.path("server2.key"))
	k.staysOutOfUse(t, p, &out, load)
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed, without retries", n)
	}

	s.primary.Kill(t)
	eventually(t, "writes go to the new primary, by what is new", func() bool {
		return p.Client().Set(within(t, time.Second), "a", "2", 0).Err() == nil
	})
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	for _, addr := range append([]string{s.replica.Addr()}, s.plain...) {
		l := admin(t, addr)
		eventually(t, "no connection is left at "+addr, func() bool { return clients(t, l)["p"] == 0 })
	}
}

// A client that shows no certificate, or does not know the servers' authority, is told so at Start.
func TestTopologiesBehindMutualTLSRefuseStrangers(t *testing.T) {
	testkit.Slow(t)
	k := newPKI(t)
	_, secure := newSecureCluster(t, k, 1, 0)
	s := newSecureSentinels(t, k)
	stranger := testcerts.New(t)
	k.issue(t, stranger, "stranger")
	k.trust(t, "stranger.ca", stranger)
	for name, o := range map[string]*redis.UniversalOptions{
		"cluster":  {Addrs: secure, IsClusterMode: true},
		"sentinel": {Addrs: s.addrs, MasterName: "shop"},
	} {
		for what, files := range map[string]poolkeeper.TLSFiles{
			"no certificate":        {CA: k.path("client.ca")},
			"a certificate unknown": {CA: k.path("client.ca"), Cert: k.path("stranger.crt"), Key: k.path("stranger.key")},
			"an authority unknown":  {CA: k.path("stranger.ca"), Cert: k.path("client.crt"), Key: k.path("client.key")},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				p := newPool(t, redispool.Config{Options: o, TLSFiles: files})
				err := p.Start(within(t, patience))
				if err == nil {
					t.Fatal("Start = nil")
				}
				if text := err.Error(); !slices.ContainsFunc([]string{"tls: ", "x509: ", "reset", "EOF", "broken pipe"}, func(s string) bool {
					return strings.Contains(text, s)
				}) {
					t.Errorf("Start = %v", err)
				}
			})
		}
	}
}
