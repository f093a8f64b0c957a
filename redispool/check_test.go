package redispool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestCheckPassesWhileThePoolIsExhausted(t *testing.T) {
	p := exhausted(t, redispool.Config{})
	if err := p.Check(within(t, patience)); err != nil {
		t.Errorf("Check = %v; a busy pool is not a dead server", err)
	}
	if s := p.Stats(); s.Open != 2 || s.Waiting != 0 {
		t.Errorf("the check is seen in the pool: %+v", s)
	}
}

func TestCheckTellsTheServersStates(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL(), Name: "cache"})
	check := func(d time.Duration) error { return p.Check(within(t, d)) }
	if err := check(patience); err != nil {
		t.Fatal(err)
	}

	srv.Freeze(t)
	begun := time.Now()
	err := check(100 * time.Millisecond)
	if err == nil || time.Since(begun) > 3*time.Second || health.Classify(err).Kind != health.KindTimeout {
		t.Errorf("frozen: %v (%s) after %s", err, health.Classify(err).Kind, time.Since(begun))
	}
	srv.Thaw(t)
	eventually(t, "it passes after the thaw", func() bool { return check(time.Second) == nil })

	srv.Kill(t)
	// The first check may still meet the end of the old connection.
	eventually(t, "it says refused", func() bool { return health.Classify(check(time.Second)).Kind == health.KindRefused })
	srv.Restart(t)
	eventually(t, "it passes after the restart", func() bool { return check(time.Second) == nil })

	if err := p.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if err := check(time.Second); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("after Stop: %v", err)
	}
}

func TestCheckWorksWithoutStartAndBeforeTheServer(t *testing.T) {
	p := newPool(t, redispool.Config{URL: "redis://" + freeAddr(t)})
	if err := p.Check(within(t, patience)); health.Classify(err).Kind != health.KindRefused {
		t.Errorf("Check = %v", err)
	}
	m := mini(t)
	p = newPool(t, redispool.Config{URL: "redis://" + m.Addr()})
	if err := p.Check(within(t, patience)); err != nil {
		t.Errorf("Check = %v", err)
	}
}

func TestConcurrentChecksShareOneConnection(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "check"}})
	results := make(chan error, 20)
	for range cap(results) {
		go func() { results <- p.Check(within(t, patience)) }()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := clients(t, look)["check"]; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestTrafficTellsTheObserverWhatItSees(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, MaxRetries: -1}})
	var o seen
	p.ObserveWith(&o)
	c := p.Client()
	if err := c.Get(t.Context(), "missing").Err(); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "str", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Incr(t.Context(), "str").Err(); err == nil {
		t.Fatal("INCR of a word")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = c.Get(ended, "x").Err() // the caller's own business
	if bad, good := o.counts(); bad != 0 || good != 0 {
		t.Errorf("%d failures and %d successes observed of a server that works", bad, good)
	}
	srv.Kill(t)
	if err := c.Get(t.Context(), "x").Err(); err == nil {
		t.Fatal("GET from a dead server")
	}
	if bad, _ := o.counts(); bad == 0 {
		t.Error("a failed connection was not observed")
	}
	srv.Restart(t)
	eventually(t, "the first success is observed", func() bool {
		_ = c.Get(t.Context(), "x").Err()
		_, good := o.counts()
		return good > 0
	})
	bad, good := o.counts()
	for range 10 {
		_ = c.Get(t.Context(), "x").Err()
	}
	if b, g := o.counts(); b != bad || g != good {
		t.Errorf("%d failures and %d successes more of a server that works", b-bad, g-good)
	}
	p.ObserveWith(nil)
	srv.Kill(t)
	_ = c.Get(t.Context(), "x").Err()
	if b, _ := o.counts(); b != bad {
		t.Error("observed after it was turned off")
	}
}

func TestClassify(t *testing.T) {
	for err, want := range map[error]health.Kind{
		nil:                              health.KindNone,
		redis.Nil:                        health.KindNone,
		fmt.Errorf("get: %w", redis.Nil): health.KindNone,
		fmt.Errorf("get: %w", redis.ErrPoolTimeout): health.KindPoolExhausted,
		redis.ErrClosed:                                                               health.KindDraining,
		poolkeeper.ErrDraining:                                                        health.KindDraining,
		answer("NOAUTH Authentication required."):                                     health.KindAuthentication,
		answer("WRONGPASS invalid username-password"):                                 health.KindAuthentication,
		answer("ERR AUTH <password> called without any password configured"):          health.KindAuthentication,
		answer("NOPERM this user has no permissions"):                                 health.KindAuthorization,
		answer("READONLY You can't write against a read only replica."):               health.KindReadOnly,
		answer("LOADING Redis is loading the dataset in memory"):                      health.KindStarting,
		answer("MASTERDOWN Link with MASTER is down"):                                 health.KindClusterDown,
		answer("CLUSTERDOWN Hash slot not served"):                                    health.KindClusterDown,
		answer("OOM command not allowed"):                                             health.KindResources,
		answer("MISCONF Redis is configured to save"):                                 health.KindResources,
		answer("BUSY Redis is busy running a script"):                                 health.KindHung,
		answer("ERR max number of clients reached"):                                   health.KindTooManyConnections,
		answer("ERR DB index is out of range"):                                        health.KindNotFound,
		answer("ERR No such master with that name"):                                   health.KindNotFound,
		answer("ERR syntax error"):                                                    health.KindUnknown,
		answer("WRONGTYPE Operation against a key"):                                   health.KindUnknown,
		errors.New("redis: all sentinels specified in configuration are unreachable"): health.KindUnreachable,
		io.EOF: health.KindReset,
		&net.OpError{Op: "read", Err: tls.AlertError(40)}: health.KindTLS,
		context.DeadlineExceeded:                          health.KindTimeout,
	} {
		if got := redispool.Classify(err).Kind; got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// answer is an error that the server sent.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}
