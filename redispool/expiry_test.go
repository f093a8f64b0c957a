package redispool_test

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

var (
	_ lifecycle.ExpiryProvider = (*redispool.Pool)(nil)
	_ lifecycle.EventSource    = (*redispool.Pool)(nil)
	_ lifecycle.EventSource    = (*redispool.Adopted)(nil)
)

// issueUntil writes a certificate for 127.0.0.1 of a's, which expires then.
func issueUntil(tb testing.TB, a *testcerts.Authority, dir, name string, until time.Time) {
	tb.Helper()
	cert, key := a.LeafUntil(tb, "127.0.0.1", until)
	write(tb, filepath.Join(dir, name+".key"), key)
	write(tb, filepath.Join(dir, name+".crt"), cert)
}

func TestPoolTellsWhenItsCertificatesExpire(t *testing.T) {
	soon, later := time.Now().Add(10*24*time.Hour), time.Now().Add(60*24*time.Hour)
	dir, ca, addr := t.TempDir(), testcerts.New(t), freeAddr(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("ca"), ca.PEM)
	issueUntil(t, ca, dir, "server", soon)
	issueUntil(t, ca, dir, "client", soon)
	srv := testserver.Redis(t, "--tls-port", portIn(t, addr), "--tls-auth-clients", "yes", "--tls-ca-cert-file", at("ca"),
		"--tls-cert-file", at("server.crt"), "--tls-key-file", at("server.key"))
	p := newPool(t, redispool.Config{
		URL: "rediss://" + addr, FileInterval: 20 * time.Millisecond,
		TLSFiles: poolkeeper.TLSFiles{CA: at("ca"), Cert: at("client.crt"), Key: at("client.key")},
	})
	hasExpiries(t, "before a handshake", p, "ca test authority", "client-certificate 127.0.0.1")
	log := subscribed(p)
	if err := p.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	all := []string{"ca test authority", "client-certificate 127.0.0.1", "server-certificate 127.0.0.1"}
	hasExpiries(t, "after a handshake", p, all...)
	for range 3 {
		if err := p.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	warned := []string{"WARN the client certificate expires soon; renew it", "WARN the server's certificate expires soon; renew it"}
	if got := log.Expiries(); !slices.Equal(got, warned) {
		t.Errorf("warned of %q, want %q", got, warned)
	}

	issueUntil(t, ca, dir, "server", later)
	do(t, admin(t, srv.Addr()), "config set tls-cert-file "+at("server.crt")+" tls-key-file "+at("server.key"))
	issueUntil(t, ca, dir, "client", later)
	eventually(t, "the renewed certificates are in effect", func() bool { return len(log.Of(poolkeeper.EventRenewed)) == 1 })
	for _, e := range p.Expiries() {
		if e.NotAfter.Before(later.Add(-time.Minute)) {
			t.Errorf("still known after its renewal: %+v", e)
		}
	}
	if got := log.Expiries(); !slices.Equal(got, warned) {
		t.Errorf("after the renewal %q", got)
	}

	issueUntil(t, ca, dir, "client", time.Now().Add(-time.Minute)) // the server refuses it, so it is not used
	eventually(t, "the renewal was rejected", func() bool { return len(log.Of(poolkeeper.EventRenewalRefused)) > 0 })
	hasExpiries(t, "after a renewal that was rejected", p, all...)
}

// The Dialer of a service tells by the connection that it returns.
func TestPoolKnowsTheServersCertificateBehindADialer(t *testing.T) {
	ca := testcerts.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "cache")}, MinVersion: tls.VersionTLS12}
	p := started(t, redispool.Config{Options: &redis.UniversalOptions{
		Addrs: []string{"x:1"},
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			a, b := net.Pipe()
			back := newFakeServer()
			go relay(tls.Server(b, server), back)
			c := tls.Client(a, &tls.Config{RootCAs: ca.Pool(), ServerName: "cache", MinVersion: tls.VersionTLS12})
			return c, c.HandshakeContext(ctx)
		},
	}})
	hasExpiries(t, "after a handshake", p, "ca test authority", "server-certificate cache")
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// relay copies between two connections until one of them ends.
func relay(a, b net.Conn) {
	var wg sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{a: b, b: a} {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := from.Read(buf)
				if err == nil {
					_, err = to.Write(buf[:n])
				}
				if err != nil {
					_, _ = a.Close(), b.Close()
					return
				}
			}
		})
	}
	wg.Wait()
}
