package suite_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// The topologies, each with scenarios of its own.
const (
	sentinel   = "Sentinel"
	cluster    = "Cluster"
	replicated = "replicated"
	bouncer    = "pgbouncer"
)

// topologies are the libraries on more than one server.
func topologies() []library {
	return []library{
		{"Redis Sentinel", sentinelBackend, 8, rawSentinel, managedRedisAt(redis.UniversalOptions{MasterName: shop}), sentinel},
		{"Redis Cluster", clusterBackend, 8, rawCluster, managedRedisAt(redis.UniversalOptions{IsClusterMode: true}), cluster},
		{"pgxpool, replicated", replicatedBackend, 10, rawPgxpool, managedPgxpool, replicated},
		{"database/sql on pgx, replicated", replicatedBackend, 10, rawPgxDB, managedPgxDB, replicated},
		{"pgxpool by pgbouncer", bouncerBackend, 10, bounced(rawPgxpool), managedBounced, bouncer},
	}
}

func everyLibrary() []library { return append(libraries(), topologies()...) }

// shop is how the sentinels call the primary.
const shop = "shop"

func rawSentinel(r *rig) (native, error) {
	return redisNative(redis.NewFailoverClient(&redis.FailoverOptions{
		SentinelAddrs: r.addrs, MasterName: shop, PoolSize: r.conns, ContextTimeoutEnabled: true, Dialer: r.dial, Password: r.password(),
	})), nil
}

func rawCluster(r *rig) (native, error) {
	return redisNative(redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: r.addrs, PoolSize: r.conns, ContextTimeoutEnabled: true, Dialer: r.dial, Password: r.password(),
	})), nil
}

func managedRedisAt(o redis.UniversalOptions) func(r *rig) (pool, native, error) {
	return func(r *rig) (pool, native, error) {
		o := o
		o.Addrs, o.Dialer = r.addrs, r.dial
		p, err := redispool.New(redispool.Config{
			Options: &o, MaxOpen: r.conns, FailFastAfter: r.failFast, Logger: r.log,
			Credentials: func(context.Context) (string, string, error) { return "", r.password(), nil },
		})
		if err != nil {
			return nil, native{}, err
		}
		return p, redisNative(p.Client()), nil
	}
}

// bounced has pgx keep nothing in sessions, which pgbouncer gives to others between transactions.
func bounced(raw func(r *rig) (native, error)) func(r *rig) (native, error) {
	return func(r *rig) (native, error) {
		r.parameters = "&default_query_exec_mode=exec"
		return raw(r)
	}
}

func managedBounced(r *rig) (p pool, n native, err error) {
	_, err = bounced(func(r *rig) (native, error) {
		p, n, err = managedPgxpool(r)
		return n, err
	})(r)
	return p, n, err
}

// redisNodes is the administrator of several Redis servers, of which the first one is the primary
// at the beginning.
type redisNodes struct {
	*redisAdmin

	servers []*testserver.Server
	admins  []*redisAdmin
}

// nodeArgs are for servers that know each other.
func nodeArgs(more ...string) []string {
	return append([]string{
		"--requirepass", secret, "--masterauth", secret,
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
	}, more...)
}

func (a *redisNodes) add(s *testserver.Server) {
	a.servers, a.admins = append(a.servers, s), append(a.admins, adminAt(s.Addr(), secret))
	a.redisAdmin = a.admins[0]
}

// adminAt is the administrator of one Redis of a topology.
func adminAt(addr, password string) *redisAdmin {
	r := &redisAdmin{addr: addr, pass: password}
	r.c = redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: 1, Password: password, ClientName: "admin", ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := &net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(adminHost)}}
			return d.DialContext(ctx, network, addr)
		},
	})
	return r
}

func (a *redisNodes) close() {
	for _, r := range a.admins {
		r.close()
	}
}

// connections counts those of all servers that run.
func (a *redisNodes) connections(ctx context.Context) (sum int, err error) {
	for i, r := range a.admins {
		if !a.servers[i].Running() {
			continue
		}
		n, lerr := r.connections(ctx)
		sum, err = sum+n, errors.Join(err, lerr)
	}
	return sum, err
}

// ports are those to which clients of the servers connect.
func (a *redisNodes) ports() (out []string) {
	for _, s := range a.servers {
		out = append(out, s.Port())
	}
	return out
}

// sentinelBackend is a primary, a replica, and three sentinels. Only they tell clients where the
// primary is.
func sentinelBackend() *backend {
	b := &backend{}
	a := &redisNodes{}
	b.start = func(tb testing.TB, _ ...string) *testserver.Server {
		tb.Helper()
		primary := testserver.Redis(tb, nodeArgs()...)
		a.add(primary)
		a.add(testserver.Redis(tb, nodeArgs("--replicaof", "127.0.0.1 "+primary.Port())...))
		b.ports = a.ports()
		for range 3 {
			s := testserver.RedisSentinel(tb, shop, primary.Port(), []string{
				"sentinel down-after-milliseconds shop 500", "sentinel failover-timeout shop 3000", "sentinel auth-pass shop " + secret,
			})
			b.topology, b.ports = append(b.topology, s.Addr()), append(b.ports, s.Port())
		}
		for _, addr := range b.topology {
			s := adminAt(addr, "")
			testkit.Eventually(tb, "each sentinel knows all", func() bool { return knowsAll(tb, s) })
			s.close()
		}
		return primary
	}
	b.connect = func(b *backend) error { b.admin = a; return nil }
	return b
}

func knowsAll(tb testing.TB, sentinel *redisAdmin) bool {
	tb.Helper()
	m, err := sentinel.c.Do(tb.Context(), "sentinel", "master", shop).Result()
	fields, ok := m.(map[any]any)
	return err == nil && ok && fields["num-slaves"] == "1" && fields["num-other-sentinels"] == "2"
}

// replicatedBackend is a PostgreSQL with a standby, which is its spare.
func replicatedBackend() *backend {
	b := postgresBackend()
	connect := b.connect
	b.connect = func(b *backend) error {
		if err := connect(b); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(b.tb.Context(), 20*time.Second)
		defer cancel()
		if err := b.admin.prepare(ctx); err != nil { // pg_basebackup logs in by the new rules
			return err
		}
		standby := postgresBackend()
		standby.tb, standby.Server = b.tb, testserver.PostgresStandby(b.tb, b.Server, b.args...)
		if err := connect(standby); err != nil {
			return err
		}
		b.tb.Cleanup(standby.admin.close)
		b.fresh = func() *backend { return standby }
		return nil
	}
	return b
}

// bouncerAdmin asks pgbouncer for its clients: PostgreSQL knows only pgbouncer.
type bouncerAdmin struct {
	*sqlAdmin

	console *sql.DB
	server  *testserver.Server // behind pgbouncer
}

func (a *bouncerAdmin) close() {
	_ = a.console.Close()
	a.sqlAdmin.close()
}

func (a *bouncerAdmin) connections(ctx context.Context) (n int, err error) {
	found, err := a.console.QueryContext(ctx, "show clients")
	if err != nil {
		return 0, err
	}
	defer func() { _ = found.Close() }()
	names, err := found.Columns()
	if err != nil {
		return 0, err
	}
	for found.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return 0, err
		}
		for i, name := range names {
			if name == "user" && values[i].String == user {
				n++
			}
		}
	}
	return n, found.Err()
}

// bouncerBackend is a pgbouncer before a PostgreSQL of its own. It looks for a lost server five
// times a second; its default, every 15 s, would hide what the pool does.
func bouncerBackend() *backend {
	const root = "postgres"
	b := postgresBackend()
	connect, args := b.connect, b.args
	behind := postgresBackend()
	b.start = func(tb testing.TB, _ ...string) *testserver.Server {
		tb.Helper()
		behind.Server = testserver.Postgres(tb, args...)
		users := behind.WriteFile(tb, "users", []byte(strconv.Quote(user)+" "+strconv.Quote(secret)+"\n"+strconv.Quote(root)+` "root"`+"\n"))
		return testserver.PgBouncer(tb, behind.Server, "auth_file = "+users, "auth_type = scram-sha-256", "server_login_retry = 0.2")
	}
	b.connect = func(b *backend) error {
		if err := connect(behind); err != nil {
			return err
		}
		direct, ok := behind.admin.(*sqlAdmin)
		if !ok {
			return errors.New("the administrator of a PostgreSQL is no sqlAdmin")
		}
		url := strings.Replace(strings.Replace(b.URL(), "/postgres?", "/pgbouncer?default_query_exec_mode=simple_protocol&", 1), root+"@", root+":root@", 1)
		console, err := sql.Open("pgx", url)
		b.admin = &bouncerAdmin{direct, console, behind.Server}
		return err
	}
	return b
}
