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

// eventLog keeps the events of a pool.
type eventLog struct {
	mu     sync.Mutex // guards the following
	events []poolkeeper.Event
}

func (l *eventLog) add(e poolkeeper.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// of returns the events of a kind.
func (l *eventLog) of(kind poolkeeper.EventKind) (out []poolkeeper.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// subscribed keeps what p says from now on.
func subscribed(p lifecycle.EventSource) *eventLog {
	l := new(eventLog)
	p.Subscribe(l.add)
	return l
}

// expiring is what p knows of its certificates, in words.
func expiring(p lifecycle.ExpiryProvider) []string {
	var out []string
	for _, e := range p.Expiries() {
		out = append(out, e.Kind+" "+e.Subject)
	}
	slices.Sort(out)
	return out
}

// expiries are the events of that kind, in words.
func (l *eventLog) expiries() []string {
	var out []string
	for _, e := range l.of(poolkeeper.EventExpiry) {
		out = append(out, e.Level.String()+" "+e.Text)
	}
	slices.Sort(out)
	return out
}

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
	if got, want := expiring(p), []string{"ca test authority", "client-certificate 127.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("before a handshake %q, want %q", got, want)
	}
	log := subscribed(p)
	if err := p.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	all := []string{"ca test authority", "client-certificate 127.0.0.1", "server-certificate 127.0.0.1"}
	if got := expiring(p); !slices.Equal(got, all) {
		t.Errorf("%q, want %q", got, all)
	}
	for range 3 {
		if err := p.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	warned := []string{"WARN the client certificate expires soon; renew it", "WARN the server's certificate expires soon; renew it"}
	if got := log.expiries(); !slices.Equal(got, warned) {
		t.Errorf("warned of %q, want %q", got, warned)
	}

	issueUntil(t, ca, dir, "server", later)
	do(t, admin(t, srv.Addr()), "config set tls-cert-file "+at("server.crt")+" tls-key-file "+at("server.key"))
	issueUntil(t, ca, dir, "client", later)
	eventually(t, "the renewed certificates are in effect", func() bool { return len(log.of(poolkeeper.EventRenewed)) == 1 })
	for _, e := range p.Expiries() {
		if e.NotAfter.Before(later.Add(-time.Minute)) {
			t.Errorf("still known after its renewal: %+v", e)
		}
	}
	if got := log.expiries(); !slices.Equal(got, warned) {
		t.Errorf("after the renewal %q", got)
	}

	issueUntil(t, ca, dir, "client", time.Now().Add(-time.Minute)) // the server refuses it, so it is not used
	eventually(t, "the renewal was rejected", func() bool { return len(log.of(poolkeeper.EventRenewalRefused)) > 0 })
	if got := expiring(p); !slices.Equal(got, all) {
		t.Errorf("after a renewal that was rejected %q, want %q", got, all)
	}
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
	if got, want := expiring(p), []string{"ca test authority", "server-certificate cache"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
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
