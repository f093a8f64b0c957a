package redispool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// Sticky Conns, Watches, commands that block on the server and subscriptions are in use all the
// time, also while not a byte is sent: neither idleness nor age nor a keep-alive gets at their
// connections.
func TestWhatIsHeldIsNeverSurplus(t *testing.T) { // INV-7
	const conns, watches, waiters = 3, 2, 2
	const held = conns + watches + waiters
	const maxIdle = 200 * time.Millisecond
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p", MaxRetries: -1}, MaxOpen: 30,
		MaxIdleTime: maxIdle, EvictionInterval: 20 * time.Millisecond, KeepAlive: 100 * time.Millisecond, MaxLifetime: 300 * time.Millisecond,
	})
	c := single(t, p)
	ctx := within(t, patience)

	together(t, look, c, 20)
	sticky := make([]*redis.Conn, conns)
	var ids []int64
	for i := range sticky {
		sticky[i] = c.Conn()
		id, err := sticky[i].ClientID(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	watching, commit, committed := make(chan int64, watches), make(chan struct{}), make(chan error, watches)
	for i := range watches {
		go func() {
			key := fmt.Sprint("watched", i)
			committed <- c.Watch(ctx, func(tx *redis.Tx) error {
				id, err := tx.ClientID(ctx).Result()
				watching <- id
				if err != nil {
					return err
				}
				<-commit
				_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Set(ctx, key, 1, 0).Err() })
				return err
			}, key)
		}()
		ids = append(ids, <-watching)
	}
	popped := make(chan error, waiters)
	for range waiters {
		go func() { popped <- c.BLPop(ctx, 0, "items").Err() }()
	}
	sub := c.Subscribe(ctx, "news")
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all wait", func() bool { return blocked(t, look) == waiters })
	eventually(t, "the surplus is gone", func() bool { return p.Stats().Open == held })

	before := p.Stats()
	all := pools(t, look)
	sleep(4 * maxIdle)
	after := p.Stats()
	if after.Open != held || after.InUse != held || after.Dials != before.Dials {
		t.Errorf("before %+v, after %+v; want %d in use and no dial", before, after, held)
	}
	now := pools(t, look)
	slices.Sort(all)
	slices.Sort(now)
	if !slices.Equal(all, now) || len(now) != held+2 { // the check's and the subscription's
		t.Errorf("connections %v before, %v after", all, now)
	}

	for i, s := range sticky {
		if id, err := s.ClientID(ctx).Result(); err != nil || id != ids[i] {
			t.Errorf("a Conn is on connection %d (%v), was on %d", id, err, ids[i])
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	close(commit)
	if err := look.RPush(ctx, "items", 1, 2).Err(); err != nil {
		t.Fatal(err)
	}
	if err := look.Publish(ctx, "news", "still here").Err(); err != nil {
		t.Fatal(err)
	}
	for range watches {
		if err := <-committed; err != nil {
			t.Errorf("a Watch: %v", err)
		}
	}
	for range waiters {
		if err := <-popped; err != nil {
			t.Errorf("BLPOP: %v", err)
		}
	}
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "still here" {
		t.Errorf("a subscription: %v, %v", m, err)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "what is given back is surplus", func() bool { return p.Stats().Open == 0 })
}

// A subscriber is told that the pool has stopped, whichever way it listens, and Stop does not wait
// for it.
func TestSubscribersAreToldOfTheStop(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "p"}})
	ctx := within(t, patience)
	told := make(chan error, 3)
	listen := func(wait func(*redis.PubSub) error) {
		t.Helper()
		sub := p.Client().PSubscribe(ctx, "news*")
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		go func() {
			err := wait(sub)
			_ = sub.Close()
			told <- err
		}()
	}
	listen(func(s *redis.PubSub) error {
		for {
			if _, err := s.ReceiveMessage(ctx); err != nil {
				return err
			}
		}
	})
	listen(func(s *redis.PubSub) error {
		for {
			if _, err := s.ReceiveTimeout(ctx, time.Minute); err != nil {
				return err
			}
		}
	})
	listen(func(s *redis.PubSub) error {
		for range s.Channel() { // until it is closed
		}
		return redis.ErrClosed
	})
	eventually(t, "they are listed", func() bool { return len(p.Holders()) == 3 })
	begun := time.Now()
	if err := p.Stop(ctx); err != nil {
		t.Errorf("Stop = %v", err)
	}
	for range cap(told) {
		if err := <-told; err == nil || ctx.Err() != nil {
			t.Errorf("told %v", err)
		}
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	if n := len(pools(t, look)); n != 0 {
		t.Errorf("the server still sees %d connections", n)
	}
}

// The leaks that a Watch and a subscription are: the one is reported, the other is mentioned, each
// once and with where it was taken.
func TestWatchThatIsHeldIsReported(t *testing.T) {
	srv := testserver.SharedRedis(t)
	var out testkit.Log
	p := started(t, redispool.Config{URL: srv.URL(), LeakThreshold: 30 * time.Millisecond, Logger: out.Logger()})
	err := p.Client().Watch(t.Context(), func(tx *redis.Tx) error {
		eventually(t, "it is reported", func() bool { return strings.Contains(out.String(), "holder=watch") })
		return nil
	}, "key")
	if err != nil {
		t.Error(err)
	}
	text := out.String()
	if strings.Count(text, "holder=watch") != 1 || !strings.Contains(text, "TestWatchThatIsHeldIsReported") || p.Stats().Leaks != 1 {
		t.Errorf("%d leaks:\n%s", p.Stats().Leaks, text)
	}
}
