package redispool_test

import (
	"context"
	"crypto/tls"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// ofUsers are the arguments of a server that knows users, each with a password of its own.
func ofUsers(users ...string) []string {
	var args []string
	for _, u := range users {
		name, password, _ := strings.Cut(u, ":")
		args = append(args, "--user", name, "on", ">"+password, "~*", "&*", "+@all")
	}
	return args
}

// code is where a function begins; 0 for nil.
func code(f any) uintptr {
	v := reflect.ValueOf(f)
	if v.IsNil() {
		return 0
	}
	return v.Pointer()
}

// whoAndWhere asks for the user and for the server's port.
func whoAndWhere(ctx context.Context, c redis.UniversalClient) (who, port string, err error) {
	if who, err = c.Do(ctx, "acl", "whoami").Text(); err != nil {
		return "", "", err
	}
	settings, err := c.ConfigGet(ctx, "port").Result()
	return who, settings["port"], err
}

// otherClient returns a client by o that is closed when the test ends.
func otherClient(tb testing.TB, o redis.Options) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// untouched returns a function that reports whether the pool's books have changed.
func untouched(tb testing.TB, p *redispool.Pool) func(what string) {
	tb.Helper()
	type books struct {
		open, inUse int
		dials       uint64
		holders     int
	}
	read := func() books {
		s := p.Stats()
		return books{s.Open, s.InUse, s.Dials, len(p.Holders())}
	}
	before := read()
	return func(what string) {
		tb.Helper()
		if after := read(); after != before {
			tb.Errorf("%s: the pool's books were %+v and are %+v", what, before, after)
		}
	}
}

func TestOptionsOfTheNativeClientAreTheUsers(t *testing.T) {
	usersDialer := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	provider := func() (string, string) { return "app", "secret" }
	inContext := func(context.Context) (string, string, error) { return "app", "secret", nil }
	onConnect := func(context.Context, *redis.Conn) error { return nil }
	secure := &tls.Config{ServerName: "cache.test", MinVersion: tls.VersionTLS12}
	file := t.TempDir() + "/login"
	write(t, file, []byte("app:secret"))
	type want = redis.UniversalOptions
	for name, tt := range map[string]struct {
		cfg  redispool.Config
		want want
	}{
		"a URL": {redispool.Config{URL: "redis://app:secret@h:1/3"}, want{Username: "app", Password: "secret", DB: 3}},
		"options": {
			redispool.Config{Options: &want{
				Addrs: []string{"h:1"}, Dialer: usersDialer, OnConnect: onConnect, CredentialsProvider: provider,
			}},
			want{Dialer: usersDialer, OnConnect: onConnect, CredentialsProvider: provider},
		},
		"a provider with a context": {
			redispool.Config{Options: &want{Addrs: []string{"h:1"}, CredentialsProviderContext: inContext}},
			want{CredentialsProviderContext: inContext},
		},
		"a file": {
			redispool.Config{URL: "redis://h:1", CredentialsFile: file}, want{Username: "app", Password: "secret"},
		},
		"TLS": {redispool.Config{URL: "redis://h:1", TLS: secure}, want{TLSConfig: secure}},
	} {
		t.Run(name, func(t *testing.T) {
			o := single(t, newPool(t, tt.cfg)).Options()
			if tt.want.Dialer == nil {
				tt.want.Dialer = otherClient(t, redis.Options{}).Options().Dialer // go-redis' own
			}
			if o.Addr != "h:1" || o.DB != tt.want.DB || o.Username != tt.want.Username || o.Password != tt.want.Password {
				t.Errorf("%s, database %d, as %s:%s", o.Addr, o.DB, o.Username, o.Password)
			}
			for what, is := range map[string]bool{
				"Dialer":                     code(o.Dialer) == code(tt.want.Dialer),
				"OnConnect":                  code(o.OnConnect) == code(tt.want.OnConnect),
				"CredentialsProvider":        code(o.CredentialsProvider) == code(tt.want.CredentialsProvider),
				"CredentialsProviderContext": code(o.CredentialsProviderContext) == code(tt.want.CredentialsProviderContext),
				"TLSConfig":                  (o.TLSConfig == nil) == (tt.want.TLSConfig == nil),
			} {
				if !is {
					t.Errorf("%s is not the user's", what)
				}
			}
			if o.TLSConfig != nil && o.TLSConfig.ServerName != secure.ServerName {
				t.Errorf("TLSConfig is for %q", o.TLSConfig.ServerName)
			}
		})
	}
}

// Credentials are asked once for a connection of the pool's, whichever client dials it. They are not
// among the options, which are the user's own: another client logs in by what these say.
func TestCredentialsAreNotShown(t *testing.T) {
	server := testserver.Redis(t, ofUsers("app:secret", "job:other")...)
	asked := 0
	p := newPool(t, redispool.Config{
		URL: "redis://job:other@" + server.Addr(), Credentials: func(context.Context) (string, string, error) {
			asked++
			return "app", "secret", nil
		},
	})
	client := single(t, p)
	copied := client.WithTimeout(patience)
	if who, _, err := whoAndWhere(t.Context(), copied); err != nil || who != "app" || asked != 1 {
		t.Fatalf("by a copy: as %q: %v; asked %d times", who, err, asked)
	}
	if who, _, err := whoAndWhere(t.Context(), client); err != nil || who != "app" || asked != 1 {
		t.Fatalf("as %q: %v; asked %d times", who, err, asked)
	}
	o := *client.Options()
	if o.CredentialsProvider != nil || o.CredentialsProviderContext != nil || o.Username != "job" || o.Password != "other" {
		t.Errorf("shown is %s:%s", o.Username, o.Password)
	}
	books := untouched(t, p)
	if who, _, err := whoAndWhere(t.Context(), otherClient(t, o)); err != nil || who != "job" || asked != 1 {
		t.Errorf("another client: as %q: %v; asked %d times", who, err, asked)
	}
	books("a client by the options")
}

func TestClientMadeFromOptionsIsNoneOfThePools(t *testing.T) {
	here, there := testserver.Redis(t, ofUsers("app:secret")...), testserver.Redis(t, ofUsers("job:other")...)
	p := started(t, redispool.Config{URL: "redis://app:secret@" + here.Addr() + "/2", MaxOpen: 2})
	client := single(t, p)
	if err := client.Set(t.Context(), "of", "the pool", 0).Err(); err != nil {
		t.Fatal(err)
	}
	books := untouched(t, p)
	try := func(name, who, port string, change func(o *redis.Options)) {
		t.Helper()
		o := *client.Options()
		change(&o)
		c := otherClient(t, o)
		gotWho, gotPort, err := whoAndWhere(t.Context(), c)
		if err != nil || gotWho != who || gotPort != port {
			t.Errorf("%s: as %q at %q (%v), want %q at %q", name, gotWho, gotPort, err, who, port)
		}
		if s := c.PoolStats(); s.TotalConns != 1 {
			t.Errorf("%s: %d connections of its own", name, s.TotalConns)
		}
	}
	attempts := func(when string) {
		t.Helper()
		try(when+", the same", "app", here.Port(), func(*redis.Options) {})
		try(when+", another server", "job", there.Port(), func(o *redis.Options) {
			o.Addr, o.Username, o.Password = there.Addr(), "job", "other"
		})
		wrong := *client.Options()
		wrong.Password = "guessed"
		err := otherClient(t, wrong).Ping(t.Context()).Err()
		if err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%s: a wrong password: %v", when, err)
		}
	}
	attempts("while the pool runs")
	same := otherClient(t, *client.Options())
	if got, err := same.Get(t.Context(), "of").Result(); err != nil || got != "the pool" {
		t.Errorf("in the same database: %q, %v", got, err)
	}
	elsewhere := *client.Options()
	elsewhere.DB = 3
	if err := otherClient(t, elsewhere).Get(t.Context(), "of").Err(); err != redis.Nil { //nolint:errorlint // bare
		t.Errorf("in another database: %v", err)
	}
	books("other clients")
	if err := p.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	books = untouched(t, p)
	attempts("after Stop")
	books("other clients after Stop")
}

func TestClusterShowsTheUsersOptions(t *testing.T) {
	k := newClusterOf(t, 3, 0, func() []string { return ofUsers("app:secret") })
	p := started(t, redispool.Config{URL: "redis+cluster://app:secret@" + k.nodes[0].Addr(), MaxOpen: 5})
	client, ok := p.Client().(*redis.ClusterClient)
	if !ok {
		t.Fatalf("Client is a %T", p.Client())
	}
	bare := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{k.nodes[0].Addr()}})
	t.Cleanup(func() { _ = bare.Close() })
	o, b := client.Options(), bare.Options()
	if code(o.Dialer) != code(b.Dialer) || code(o.NewClient) != code(b.NewClient) || o.OnConnect != nil ||
		o.CredentialsProvider != nil || o.CredentialsProviderContext != nil || o.Username != "app" || o.Password != "secret" ||
		!slices.Equal(o.Addrs, b.Addrs) {
		t.Errorf("options of the Cluster: %q as %s:%s", o.Addrs, o.Username, o.Password)
	}
	var node redis.Options
	if err := client.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		if c.Options().Addr == k.nodes[1].Addr() {
			node = *c.Options()
		}
		return c.Ping(ctx).Err()
	}); err != nil {
		t.Fatal(err)
	}
	native := otherClient(t, redis.Options{}).Options().Dialer
	if code(node.Dialer) != code(native) || node.CredentialsProviderContext != nil || node.Username != "app" {
		t.Errorf("options of a node: %s as %q", node.Addr, node.Username)
	}
	attempts := func(when string) {
		t.Helper()
		books := untouched(t, p)
		node := node
		if who, port, err := whoAndWhere(t.Context(), otherClient(t, node)); err != nil || who != "app" ||
			port != k.nodes[1].Port() {
			t.Errorf("%s: a client of a node: as %q at %q: %v", when, who, port, err)
		}
		node.Password = "guessed"
		if err := otherClient(t, node).Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%s: a node with a wrong password: %v", when, err)
		}
		for password, want := range map[string]string{"secret": "", "guessed": "WRONGPASS"} {
			again := *client.Options()
			again.Password = password
			c := redis.NewClusterClient(&again)
			err := c.Set(t.Context(), "a", 1, 0).Err()
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: another ClusterClient by %q: %v", when, password, err)
			}
			_ = c.Close()
		}
		books(when)
	}
	attempts("while the pool runs")
	if err := p.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	attempts("after Stop")
}

// The dialer that go-redis shows behind Sentinel is its own: it asks the sentinels, whatever the
// address.
func TestSentinelClientShowsTheUsersLogin(t *testing.T) {
	s := newSentinels(t)
	if err := admin(t, s.primary.Addr()).Do(t.Context(), "acl", "setuser", "app", "on", ">secret", "~*", "&*", "+@all").
		Err(); err != nil {
		t.Fatal(err)
	}
	p := started(t, redispool.Config{URL: s.url("&username=app&password=secret"), MaxOpen: 2})
	bare := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "shop", SentinelAddrs: s.addrs})
	t.Cleanup(func() { _ = bare.Close() })
	o := *single(t, p).Options()
	if code(o.Dialer) != code(bare.Options().Dialer) || o.CredentialsProvider != nil || o.CredentialsProviderContext != nil ||
		o.Username != "app" || o.Password != "secret" || o.Addr != bare.Options().Addr {
		t.Errorf("options: %q as %s:%s", o.Addr, o.Username, o.Password)
	}
	books := untouched(t, p)
	if who, port, err := whoAndWhere(t.Context(), otherClient(t, o)); err != nil || who != "app" || port != s.primary.Port() {
		t.Errorf("another client: as %q at %q: %v", who, port, err)
	}
	o.Password = "guessed"
	if err := otherClient(t, o).Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
	books("other clients")
}

// passing is a hook of the user's that counts dials.
type passing struct{ dials int }

func (h *passing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.dials++
		return next(ctx, network, addr)
	}
}

func (*passing) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

func (*passing) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// Hooks that the user adds, at whatever time, see the dials, and the pool goes on opening the
// connections: after a Reload it opens them to the new server.
func TestHooksAddedLaterDoNotOpenConnections(t *testing.T) {
	servers := []*testserver.Server{testserver.Redis(t), testserver.Redis(t), testserver.Redis(t)}
	cfg := redispool.Config{URL: servers[0].URL(), MaxOpen: 1}
	p := newPool(t, cfg)
	client := single(t, p)
	before := new(passing)
	client.AddHook(before)
	if err := p.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	hooks := []*passing{before}
	for i, s := range servers {
		later := new(passing)
		client.AddHook(later)
		hooks = append(hooks, later, new(passing))
		client.AddHook(hooks[len(hooks)-1])
		for _, h := range hooks {
			h.dials = 0
		}
		cfg.URL = s.URL()
		if i == 0 {
			p.Reset()
		} else if err := p.Reload(within(t, patience), cfg); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for conn := client.Conn(); conn != nil; conn = nil { // chains of their own are built by the way
				if err := conn.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
			}
			if _, port, err := whoAndWhere(t.Context(), client.WithTimeout(patience)); err != nil || port != s.Port() {
				t.Errorf("%d: at %q: %v, want %s", i, port, err, s.Port())
			}
			sub := client.Subscribe(t.Context(), "news")
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Error(err)
			}
			if !slices.ContainsFunc(p.Holders(), func(h poolkeeper.Holder) bool { return h.Kind == poolkeeper.KindPubSub }) {
				t.Errorf("%d: the subscription is not among the holders", i)
			}
			_ = sub.Close()
		}
		for j, h := range hooks {
			if h.dials < 2 || h.dials != hooks[0].dials { // a connection of the pool's and two subscriptions
				t.Errorf("%d: hook %d saw %d dials, the first one %d", i, j, h.dials, hooks[0].dials)
			}
		}
		if n := p.Stats().Open; n != 1 {
			t.Errorf("%d: %d connections are open", i, n)
		}
	}
}
