package redispool_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// The client shows the login that New was given, and logs in by the one in effect. Old servers, and
// some proxies, do not know HELLO, and are sent AUTH.
func TestLoginInEffectIsSentWhateverTheOptionsShow(t *testing.T) {
	for name, args := range map[string][]string{"HELLO": nil, "AUTH": {"--rename-command", "HELLO", ""}} {
		t.Run(name, func(t *testing.T) {
			server := testserver.Redis(t, append(ofUsers("app:secret", "job:other"), args...)...)
			by := func(login string) redispool.Config {
				return redispool.Config{URL: "redis://" + login + server.Addr(), MaxOpen: 2, Logger: silent()}
			}
			for _, first := range []string{"", "app:secret@"} {
				p := started(t, by(first))
				shown := *single(t, p).Options()
				for _, login := range []string{"", "job:other@", "app:secret@", "", first} {
					if err := p.Reload(within(t, patience), by(login)); err != nil {
						t.Fatal(err)
					}
					want, _, _ := strings.Cut(login, ":")
					if want == "" {
						want = "default"
					}
					if who, _, err := whoAndWhere(t.Context(), p.Client()); err != nil || who != want {
						t.Errorf("from %q to %q: as %q: %v", first, login, who, err)
					}
				}
				now := *single(t, p).Options()
				if now.Username != shown.Username || now.Password != shown.Password || now.CredentialsProviderContext != nil {
					t.Errorf("shown is %s:%s", now.Username, now.Password)
				}
			}
		})
	}
}

// A password alone is that of the default user, and servers without users know no other form of
// AUTH.
func TestPasswordAloneIsSentAlone(t *testing.T) {
	server := testserver.Redis(t, "--rename-command", "HELLO", "", "--requirepass", "one")
	sent := new(logins)
	by := func(password string) redispool.Config {
		return redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: password, Dialer: sent.dial}, Logger: silent(),
		}
	}
	p := started(t, by("one"))
	if err := p.Client().ConfigSet(t.Context(), "requirepass", "two").Err(); err != nil {
		t.Fatal(err)
	}
	sent.clear()
	if err := p.Reload(within(t, patience), by("two")); err != nil {
		t.Fatal(err)
	}
	who, _, err := whoAndWhere(t.Context(), p.Client())
	if err != nil || who != "default" || single(t, p).Options().Password != "one" {
		t.Errorf("as %q: %v", who, err)
	}
	if all := sent.clear(); len(all) < 2 || slices.ContainsFunc(all, func(auth string) bool { return auth != "auth two" }) {
		t.Errorf("sent %q", all)
	}
}

// logins notes every AUTH that is sent on connections dialled by it.
type logins struct {
	mu    sync.Mutex
	words []string
}

func (l *logins) clear() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.words
	l.words = nil
	return all
}

func (l *logins) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return overheard{c, l}, err
}

type overheard struct {
	net.Conn

	by *logins
}

func (c overheard) Write(b []byte) (int, error) {
	if words := strings.Split(string(b), "\r\n"); len(words) > 4 && words[2] == "auth" {
		var said []string
		for i := 2; i < len(words); i += 2 {
			said = append(said, words[i])
		}
		c.by.mu.Lock()
		c.by.words = append(c.by.words, strings.Join(said, " "))
		c.by.mu.Unlock()
	}
	return c.Conn.Write(b)
}

// Redis repeats the arguments of commands that it does not know, and its operators rename commands.
func TestServerWithoutAuthDoesNotRepeatThePassword(t *testing.T) { // INV-12
	server := testserver.Redis(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	const password = "hunter2"
	ask := func(context.Context) (user, pass string, err error) { return "u", password, nil }
	file := filepath.Join(t.TempDir(), "login")
	write(t, file, []byte("u:"+password))
	for name, cfg := range map[string]redispool.Config{
		"a password":          {URL: "redis://:" + password + "@" + server.Addr()},
		"a user":              {URL: "redis://u:" + password + "@" + server.Addr()},
		"a file":              {URL: "redis://" + server.Addr(), CredentialsFile: file},
		"a function":          {URL: "redis://" + server.Addr(), Credentials: ask},
		"a file and a user's": {URL: "redis://u:x@" + server.Addr(), CredentialsFile: file},
	} {
		p := newPool(t, cfg)
		for _, err := range []error{p.Start(within(t, patience)), p.Client().Ping(t.Context()).Err()} {
			if err == nil || !strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), password) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Nothing that a caller reads is changed, although it looks like the answer to a login.
func TestOnlyAnswersToALoginAreChanged(t *testing.T) {
	p := started(t, redispool.Config{URL: "redis://" + testserver.SharedRedis(t).Addr()})
	const text = "ERR unknown command 'auth', with args beginning with: 'x'"
	for range 2 { // the first command on a connection, and the second
		if err := p.Client().Eval(t.Context(), `return redis.error_reply(ARGV[1])`, nil, text).Err(); err == nil || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("got %v", err)
		}
	}
}

func TestRefusedLoginInEffectIsAnAuthenticationFailure(t *testing.T) {
	for name, args := range map[string][]string{"HELLO": nil, "AUTH": {"--rename-command", "HELLO", ""}} {
		for _, first := range []string{"", "job:other@"} {
			t.Run(name+" "+first, func(t *testing.T) {
				server := testserver.Redis(t, append(ofUsers("app:secret", "job:other"), args...)...)
				p := started(t, redispool.Config{URL: "redis://" + first + server.Addr(), Logger: silent()})
				if err := p.Reload(within(t, patience), redispool.Config{
					URL: "redis://app:secret@" + server.Addr(), Logger: silent(),
				}); err != nil {
					t.Fatal(err)
				}
				if err := admin(t, server.Addr()).Do(t.Context(), "acl", "deluser", "app").Err(); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the login is refused", func() bool {
					err := p.Client().Ping(t.Context()).Err()
					return redispool.Classify(err).Kind == health.KindAuthentication && strings.Contains(err.Error(), "WRONGPASS")
				})
			})
		}
	}
}

// What OnConnect does with a new connection is its own affair.
func TestLoginsOfOnConnectAreLeftAlone(t *testing.T) {
	for name, args := range map[string][]string{"HELLO": nil, "AUTH": {"--rename-command", "HELLO", ""}} {
		t.Run(name, func(t *testing.T) {
			server := testserver.Redis(t, append(ofUsers("app:secret", "job:other", "last:word"), args...)...)
			o := redis.UniversalOptions{
				Addrs: []string{server.Addr()}, Username: "app", Password: "secret",
				OnConnect: func(ctx context.Context, c *redis.Conn) error { return c.AuthACL(ctx, "last", "word").Err() },
			}
			p := started(t, redispool.Config{Options: &o})
			next := o
			next.Username, next.Password = "job", "other"
			if err := p.Reload(within(t, patience), redispool.Config{Options: &next, Logger: silent()}); err != nil {
				t.Fatal(err)
			}
			if who, _, err := whoAndWhere(t.Context(), p.Client()); err != nil || who != "last" {
				t.Errorf("as %q: %v", who, err)
			}
		})
	}
}
