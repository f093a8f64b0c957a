package redispool_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// On sockets: a server that is killed, and one that accepts and says nothing.
func TestARealServerGoesDownAndComesBack(t *testing.T) {
	testkit.Slow(t)
	for name, fault := range map[string]func(tb testing.TB, srv *testserver.Server, px *testkit.Proxy) (heal func()){
		"killed": func(tb testing.TB, _ *testserver.Server, px *testkit.Proxy) func() {
			tb.Helper()
			px.Refuse(tb, true)
			px.BlackHole()
			return func() { px.Refuse(tb, false) }
		},
		"silent": func(tb testing.TB, _ *testserver.Server, px *testkit.Proxy) func() {
			tb.Helper()
			px.BlackHole()
			px.Mute(true)
			return func() { px.Mute(false) }
		},
		"frozen": func(tb testing.TB, srv *testserver.Server, _ *testkit.Proxy) func() {
			tb.Helper()
			srv.Freeze(tb)
			return func() { srv.Thaw(tb) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := testserver.Redis(t)
			px := testkit.NewProxy(t, srv.Addr())
			p := started(t, redispool.Config{
				URL: "redis://" + px.Addr(), MaxOpen: 4, ReadTimeout: 100 * time.Millisecond, DialTimeout: 500 * time.Millisecond,
				FailFastAfter: 300 * time.Millisecond,
			})
			heal := fault(t, srv, px)
			eventually(t, "callers are told that it is down", func() bool {
				return errors.Is(p.Client().Get(t.Context(), "key").Err(), poolkeeper.ErrDown)
			})
			before := p.Stats()
			for range 1000 {
				if err := p.Client().Get(t.Context(), "key").Err(); !errors.Is(err, poolkeeper.ErrDown) {
					t.Fatal(err)
				}
			}
			after := p.Stats()
			if dials := after.Dials + after.DialErrors - before.Dials - before.DialErrors; dials > 10 {
				t.Errorf("%d dials during 1,000 calls", dials)
			}
			heal()
			eventually(t, "callers are let in", func() bool {
				err := p.Client().Get(t.Context(), "key").Err()
				return errors.Is(err, redis.Nil)
			})
		})
	}
}

// A node of a Cluster that is down is told of at once, and the others go on.
func TestANodeOfAClusterIsDownByItself(t *testing.T) {
	k := newCluster(t, 2, 0)
	p := started(t, redispool.Config{Options: k.options(), MaxOpen: 4, FailFastAfter: 300 * time.Millisecond})
	keys := []string{k.keyAt(t, 0), k.keyAt(t, 1)}
	for _, key := range keys {
		if err := p.Client().Get(t.Context(), key).Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
	k.nodes[1].Kill(t)
	var last error
	eventually(t, "the node is down", func() bool {
		last = p.Client().Get(t.Context(), keys[1]).Err()
		return errors.Is(last, poolkeeper.ErrDown)
	})
	d, ok := errors.AsType[*poolkeeper.DownError](last)
	if !ok || d.Pool != "redis/"+k.nodes[1].Addr() {
		t.Errorf("%+v names the pool %q", d, d.Pool)
	}
	_, err := p.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Get(t.Context(), keys[1]).Err() })
	if !errors.Is(err, poolkeeper.ErrDown) {
		t.Errorf("a pipeline: %v", err)
	}
	if err := p.Client().Watch(t.Context(), func(*redis.Tx) error { return nil }, keys[1]); !errors.Is(err, poolkeeper.ErrDown) {
		t.Errorf("a Watch: %v", err)
	}
	if err := p.Client().Get(t.Context(), keys[0]).Err(); !errors.Is(err, redis.Nil) && !redis.IsClusterDownError(err) {
		t.Errorf("the other node: %v", err)
	}
}
