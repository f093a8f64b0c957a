package redispool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	p := started(t, redispool.Config{URL: "redis://:one@" + server.Addr()})
	sent := new(logins)
	p.Client().AddHook(sent) // after the pool's own hook: it sees what is sent
	if err := p.Client().ConfigSet(t.Context(), "requirepass", "two").Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(within(t, patience), redispool.Config{URL: "redis://:two@" + server.Addr(), Logger: silent()}); err != nil {
		t.Fatal(err)
	}
	who, _, err := whoAndWhere(t.Context(), p.Client())
	if err != nil || who != "default" || single(t, p).Options().Password != "one" {
		t.Errorf("as %q: %v", who, err)
	}
	if !slices.Equal(sent.words, []string{"auth one", "auth two"}) {
		t.Errorf("sent %q", sent.words)
	}
}

// logins is a hook that notes every AUTH.
type logins struct {
	passing

	words []string
}

func (h *logins) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "auth" {
			h.words = append(h.words, strings.TrimSpace(fmt.Sprintln(cmd.Args()...)))
		}
		return next(ctx, cmd)
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
