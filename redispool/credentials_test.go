package redispool_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// do runs commands of an administrator's, each written as in redis-cli.
func do(tb testing.TB, look *redis.Client, commands ...string) {
	tb.Helper()
	for _, line := range commands {
		var args []any
		for word := range strings.FieldsSeq(line) {
			args = append(args, word)
		}
		if err := look.Do(tb.Context(), args...).Err(); err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
	}
}

// The secret is rotated as one should: the server accepts both passwords, the file changes, the old
// one is withdrawn.
func TestPasswordInAFileIsRotatedUnderLoad(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	do(t, look, "acl setuser app on >one ~* &* +@all")
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("app:one\n"))
	var out testkit.Log
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1},
		MaxOpen: 20, MinIdle: 5, CredentialsFile: file, FileInterval: 20 * time.Millisecond, Logger: out.Logger(),
	})
	load := lightTraffic(t, p.Client(), 6)
	held := single(t, p).Conn()
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	newest := latestID(t, look)

	write(t, file, []byte("app:two\n")) // too early: the server does not know it yet
	eventually(t, "the trouble is logged", func() bool { return strings.Contains(out.String(), "kind=renewal-refused") })
	do(t, look, "acl setuser app >two")
	eventually(t, "all but the one in use are new", func() bool { return oldConns(t, look, newest) == 1 })
	do(t, look, "acl setuser app <one")
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a connection in use: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "that one goes at its next turn", func() bool { return oldConns(t, look, newest) == 0 })
	p.Reset() // the old password would fail now
	before := load.done.Load()
	eventually(t, "traffic goes on", func() bool { return load.done.Load() > before+100 })
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}
	text := out.String()
	if n := strings.Count(text, "kind=renewal-refused"); n != 1 {
		t.Errorf("the same trouble is logged %d times", n)
	}
	if !strings.Contains(text, "WRONGPASS") || !strings.Contains(text, `CredentialsFile="… → …"`) || strings.Contains(text, "two") {
		t.Errorf("the log:\n%s", text)
	}
}

// The only password there is changes at once (requirepass). Connections that are open go on; what
// is dialled in between fails, and makes the pool look at the file now instead of in an hour.
func TestFailedLoginHasTheFileLookedAtAtOnce(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "one")
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("one"))
	p := started(t, redispool.Config{URL: srv.URL(), CredentialsFile: file, FileInterval: time.Hour})
	c := p.Client()
	do(t, single(t, p), "config set requirepass two")
	write(t, file, []byte("two"))
	p.Reset()
	eventually(t, "a login that fails, or has not to be made", func() bool {
		err := c.Ping(t.Context()).Err()
		if err != nil && redispool.Classify(err).Kind != health.KindAuthentication {
			t.Fatal(err)
		}
		return err == nil && p.Stats().Evicted["reload"] > 0
	})
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestFileThatCannotBeReadIsNotUsed(t *testing.T) {
	srv := testserver.Redis(t, "--requirepass", "one")
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, []byte("one"))
	var out testkit.Log
	cfg := redispool.Config{URL: srv.URL(), CredentialsFile: file, FileInterval: 10 * time.Millisecond, Logger: out.Logger()}
	p := started(t, cfg)
	write(t, file, nil)
	eventually(t, "it is logged", func() bool { return strings.Contains(out.String(), "there is no password in") })
	if err := p.Reload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "there is no password in") {
		t.Errorf("Reload = %v", err)
	}
	p.Reset()
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Errorf("the old password is kept: %v", err)
	}
	// Reload reads the files too, also when FileInterval is Off.
	write(t, file, []byte("one"))
	cfg.FileInterval = poolkeeper.Off
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	do(t, single(t, p), "config set requirepass two")
	write(t, file, []byte("two"))
	changes, err := p.Plan(cfg)
	if err != nil || len(changes) != 1 || changes[0] != (poolkeeper.Change{Field: "CredentialsFile", From: "…", To: "…"}) {
		t.Errorf("Plan = %v, %v", changes, err)
	}
	if err := p.Reload(within(t, patience), cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

// Every certificate there is is replaced, the authority's too, by a server that wants to see the
// client's.
func TestMutualTLSIsRenewedFromDiskUnderLoad(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	first, second := testcerts.New(t), testcerts.New(t)
	put := func(a *testcerts.Authority, name string) {
		cert, key := a.Leaf(t, "127.0.0.1")
		write(t, file(name+".key"), key)
		write(t, file(name+".crt"), cert)
	}
	both := append(append([]byte(nil), first.PEM...), second.PEM...)
	put(first, "server1")
	put(second, "server2")
	put(first, "client")
	write(t, file("ca"), first.PEM)
	write(t, file("first"), first.PEM)
	write(t, file("both"), both)
	write(t, file("second"), second.PEM)

	secure := freeAddr(t)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	srv := testserver.Redis(t, "--tls-port", port, "--tls-auth-clients", "yes", "--tls-ca-cert-file", file("first"),
		"--tls-cert-file", file("server1.crt"), "--tls-key-file", file("server1.key"))
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{secure}, ClientName: "p", MaxRetries: -1},
		MaxOpen: 20, MinIdle: 5, FileInterval: 20 * time.Millisecond,
		TLSFiles: poolkeeper.TLSFiles{CA: file("ca"), Cert: file("client.crt"), Key: file("client.key")},
	})
	if err := admin(t, secure).Ping(t.Context()).Err(); err == nil {
		t.Fatal("the server speaks plain text on its TLS port")
	}
	load := lightTraffic(t, p.Client(), 6)
	renewed := func(what string, change func()) {
		t.Helper()
		newest := latestID(t, look)
		change()
		eventually(t, what, func() bool { return oldConns(t, look, newest) == 0 && len(pools(t, look)) >= 5 })
	}
	renewed("trust in both authorities", func() { write(t, file("ca"), both) })
	do(t, look, "config set tls-ca-cert-file "+file("both")+" tls-cert-file "+file("server2.crt")+" tls-key-file "+file("server2.key"))
	renewed("a certificate by the second", func() { put(second, "client") })
	do(t, look, "config set tls-ca-cert-file "+file("second")) // a client's certificate by the first is refused now
	renewed("trust in the second only", func() { write(t, file("ca"), second.PEM) })
	load.end()
	if n := load.failed.Load(); n != 0 {
		t.Errorf("%d commands failed", n)
	}

	// Half of a renewal, or one that the server does not accept, changes nothing.
	newest := latestID(t, look)
	write(t, file("client.crt"), []byte("half written"))
	p.Reset()
	eventually(t, "new connections by the old certificate", func() bool {
		return p.Client().Ping(t.Context()).Err() == nil && oldConns(t, look, newest) <= 1 // the check's
	})
	put(first, "client")
	p.Reset()
	if err := p.Client().Ping(t.Context()).Err(); err != nil {
		t.Errorf("a certificate that the server refuses was used: %v", err)
	}
	if err := p.Check(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// A function that returns a new token at each call is no rotation: replacing the connections would
// ask for new tokens, and so for ever. A function whose answer changes once is a rotation.
func TestTokensMadeForEachLoginAreNoRotation(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(asked int64) string
		want   uint64 // connections replaced
	}{
		"a token each":     {func(n int64) string { return fmt.Sprint("token ", n) }, 0},
		"the same":         {func(int64) string { return "constant" }, 0},
		"a token a second": {func(int64) string { return fmt.Sprint("token ", time.Now().Unix()) }, 0},
		"a new password":   {func(n int64) string { return fmt.Sprint("password ", n > 2) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				var asked atomic.Int64
				p, _ := bubble(t, redispool.Config{
					MaxOpen: 10, KeepAlive: poolkeeper.Off, MaxIdleTime: poolkeeper.Off,
					Credentials: func(context.Context) (string, string, error) {
						return "app", c.answer(asked.Add(1)), nil
					},
				})
				client := single(t, p)
				get := func() *redis.Conn {
					conn := client.Conn()
					if err := conn.Get(t.Context(), "key").Err(); err != nil {
						t.Fatal(err)
					}
					return conn
				}
				var conns []*redis.Conn
				for range 4 { // the first login was the check's
					conns = append(conns, get())
					time.Sleep(1500 * time.Millisecond)
				}
				for _, conn := range conns {
					if err := conn.Close(); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Minute)
				for range 10 { // condemned ones go at their next turn
					if err := client.Get(t.Context(), "key").Err(); err != nil {
						t.Fatal(err)
					}
				}
				if got := p.Stats().Evicted["reload"]; got != c.want {
					t.Errorf("%d connections were replaced, want %d; asked %d times", got, c.want, asked.Load())
				}
			})
		})
	}
}

// A panic in the caller's goroutine would be the caller's affair. But the evictor dials too, and
// the pool asks for logins again later.
func TestPanicOfCredentialsIsAnError(t *testing.T) {
	p := newPool(t, redispool.Config{URL: "redis://" + mini(t).Addr(), Credentials: func(context.Context) (string, string, error) {
		panic("vault")
	}})
	if err := p.Client().Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("PING: %v", err)
	}
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("Check: %v", err)
	}
}
