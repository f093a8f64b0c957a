package redispool_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A refusal of PING is an answer to a user that has logged in. A refused login is none.
func TestUserThatMayNotPingStartsAndIsHealthy(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	for user, rules := range map[string][]any{
		"app": {"on", ">pw", "~*", "-@all", "+get", "+set"}, "nodb": {"on", ">pw", "~*", "-@all", "+get"},
	} {
		if err := look.Do(t.Context(), append([]any{"acl", "setuser", user}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := started(t, redispool.Config{URL: "redis://app:pw@" + srv.Addr()})
	if err := p.Client().Set(t.Context(), "k", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(within(t, patience)); err != nil {
		t.Errorf("Check: %v", err)
	}
	if l, err := p.Limits(within(t, patience)); err != nil || len(l.LeftOut) != 3 {
		t.Errorf("Limits: %+v, %v; want INFO and two settings left out", l, err)
	}
	for _, url := range []string{"redis://app:wrong@" + srv.Addr(), "redis://nodb:pw@" + srv.Addr() + "/3"} {
		p := newPool(t, redispool.Config{URL: url})
		if err := p.Check(within(t, patience)); err == nil {
			t.Error("healthy, although every connection is refused when it logs in")
		}
	}
}

func TestCheckCommandIsWhatTheCheckSends(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{URL: srv.URL(), CheckCommand: "GET health:key"})
	if err := p.Check(within(t, patience)); err != nil {
		t.Errorf("a missing key: %v", err)
	}
	if err := look.LPush(t.Context(), "health:key", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(within(t, patience)); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("an error as answer: %v", err)
	}
	for _, bad := range []string{" ", "SELECT 1", "Subscribe x"} {
		if err := (redispool.Config{URL: srv.URL(), CheckCommand: bad}).Validate(); err == nil || !strings.Contains(err.Error(), "CheckCommand") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A full server refuses the check's connection, and goes on serving the pool's.
func TestCheckOfAFullServerAsksOnAnIdleConnection(t *testing.T) {
	srv := testserver.Redis(t, "--maxclients", "3")
	p := newPool(t, redispool.Config{URL: srv.URL(), MaxOpen: 2})
	ctx := within(t, patience)
	c := single(t, p)
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the rest of the server's places
		other := rawClient(t, &redis.Options{Addr: srv.Addr(), PoolSize: 1})
		if err := other.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := p.Check(ctx); err != nil {
			t.Errorf("with an idle connection: %v", err)
		}
	}
	conn := c.Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := p.Check(ctx)
		if !isDegraded(err) || health.Classify(err).Kind != health.KindTooManyConnections || !strings.Contains(err.Error(), "full") {
			t.Errorf("with none idle: %v (%s)", err, health.Classify(err).Kind)
		}
	}
}

// A silent node of a Cluster is named alone, and the Cluster is degraded, within the time of one
// check.
func TestSilentNodeOfAClusterIsNamedAlone(t *testing.T) {
	testkit.Slow(t)
	k := newCluster(t, 3, 0)
	p := started(t, redispool.Config{Options: k.options()})
	if err := p.Check(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	k.nodes[0].Freeze(t)
	defer k.nodes[0].Thaw(t)
	err := p.Check(within(t, 2*time.Second))
	if !isDegraded(err) || !strings.Contains(err.Error(), k.nodes[0].Addr()) ||
		strings.Contains(err.Error(), k.nodes[1].Addr()) || strings.Contains(err.Error(), k.nodes[2].Addr()) {
		t.Errorf("Check: %v", err)
	}
	l, err := p.Limits(within(t, 2*time.Second))
	if err != nil || len(l.LeftOut) != 1 || !strings.Contains(l.LeftOut[0], k.nodes[0].Addr()) {
		t.Errorf("Limits: %+v, %v", l, err)
	}
}

// isDegraded reports whether a check passes with a reservation, as a monitor would tell.
func isDegraded(err error) bool {
	kind := reflect.TypeOf(health.Degraded(errors.New("")))
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == kind {
			return true
		}
	}
	return false
}
