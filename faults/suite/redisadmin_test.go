package suite_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// redisAdmin talks to a Redis. Persistence is off, so that a restart loses data: that is not the
// pool's.
type redisAdmin struct {
	c    *redis.Client
	addr string
	pass string
}

func redisBackend() *backend {
	return &backend{
		start: testserver.Redis, args: []string{"--maxclients", strconv.Itoa(places), "--requirepass", secret},
		connect: func(b *backend) error {
			a := &redisAdmin{addr: b.Addr(), pass: secret}
			a.c = redis.NewClient(&redis.Options{Addr: b.Addr(), PoolSize: 1, CredentialsProvider: func() (string, string) { return "", a.pass }, ClientName: "admin"})
			b.admin = a
			return nil
		},
	}
}

func (a *redisAdmin) close()                            { _ = a.c.Close() }
func (a *redisAdmin) prepare(ctx context.Context) error { return a.c.Ping(ctx).Err() }

func (a *redisAdmin) list(ctx context.Context) (ids []string, err error) {
	text, err := a.c.ClientList(ctx).Result()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		fields := map[string]string{}
		for f := range strings.FieldsSeq(line) {
			k, v, _ := strings.Cut(f, "=")
			fields[k] = v
		}
		if fields["name"] != "admin" && fields["name"] != "hog" && !ofServer(fields) {
			ids = append(ids, fields["id"])
		}
	}
	return ids, nil
}

// ofServer reports whether a connection is another server's: a replica's or a primary's, a
// sentinel's, or that of MIGRATE.
func ofServer(client map[string]string) bool {
	return strings.ContainsAny(client["flags"], "SM") || strings.HasPrefix(client["name"], "sentinel-") ||
		strings.HasPrefix(client["cmd"], "restore")
}

func (a *redisAdmin) connections(ctx context.Context) (int, error) {
	ids, err := a.list(ctx)
	return len(ids), err
}

func (a *redisAdmin) endAll(ctx context.Context) error {
	ids, err := a.list(ctx)
	for _, id := range ids {
		_ = a.c.ClientKillByFilter(ctx, "ID", id).Err() // it may be gone
	}
	return err
}

func (a *redisAdmin) endOne(ctx context.Context, n int) error {
	ids, err := a.list(ctx)
	if err != nil || len(ids) == 0 {
		return err
	}
	_ = a.c.ClientKillByFilter(ctx, "ID", ids[n%len(ids)]).Err() // it may be gone
	return nil
}

func (a *redisAdmin) setPassword(ctx context.Context, password string) error {
	if err := a.c.ConfigSet(ctx, "requirepass", password).Err(); err != nil {
		return err
	}
	a.pass = password
	return nil
}

func (a *redisAdmin) hog(ctx context.Context) (func(), error) {
	c := redis.NewClient(&redis.Options{Addr: a.addr, PoolSize: 1, MaxRetries: -1, Password: a.pass, ClientName: "hog"})
	if err := c.Ping(ctx).Err(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return func() { _ = c.Close() }, nil
}

func (a *redisAdmin) total(ctx context.Context) (sum int, err error) {
	for n := range rows {
		v, err := a.c.Get(ctx, key(n)).Int()
		if err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it bare
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// idKey is the counter of an id. An increment that the server applies twice shows.
func idKey(id int64) string { return idPrefix + strconv.FormatInt(id, 10) }

const idPrefix = "id:"

func (a *redisAdmin) applied(ctx context.Context) (map[int64]int, error) {
	keys, err := a.c.Keys(ctx, idPrefix+"*").Result()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	values, err := a.c.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	out := map[int64]int{}
	for i, k := range keys {
		id, err := strconv.ParseInt(strings.TrimPrefix(k, idPrefix), 10, 64)
		if err != nil {
			return nil, err
		}
		if out[id], err = strconv.Atoi(fmt.Sprint(values[i])); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *redisAdmin) idleTimeout(ctx context.Context, on bool) error {
	seconds := "0"
	if on {
		seconds = strconv.Itoa(int(idleLimit.Seconds()))
	}
	return a.c.ConfigSet(ctx, "timeout", seconds).Err()
}

func (a *redisAdmin) readOnly(ctx context.Context, on bool) error {
	if !on {
		return a.c.Do(ctx, "replicaof", "no", "one").Err()
	}
	return a.c.Do(ctx, "replicaof", "127.0.0.1", "1").Err() // nobody's port: only the role counts
}
