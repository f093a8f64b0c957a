package redispool_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// The fake Cluster has two nodes. The first one serves every slot, and says MOVED to the second one
// for keys that begin with "moved", after 600 ms if they end in "late". A GET of a key that ends in
// a duration takes that long.
const (
	firstNode  = "10.0.0.1:1"
	secondNode = "10.0.0.2:1"
)

// dialFakeCluster opens a connection to a node of the fake Cluster. It works in a synctest bubble.
func dialFakeCluster(addr string) net.Conn {
	client, server := net.Pipe()
	// It ends when the client's end is closed.
	go func() {
		defer func() { _ = server.Close() }()
		in := bufio.NewReader(server)
		for {
			args, err := readCommand(in)
			if err != nil {
				return
			}
			if _, err := io.WriteString(server, fakeClusterReply(addr, args)); err != nil {
				return
			}
		}
	}()
	return cuttable{client}
}

func fakeClusterReply(addr string, args []string) string {
	switch strings.ToLower(args[0]) {
	case "cluster":
		if strings.EqualFold(args[1], "info") {
			return "$16\r\ncluster_state:ok\r\n"
		}
		return "*2\r\n" +
			"*3\r\n:0\r\n:16382\r\n*2\r\n$8\r\n10.0.0.1\r\n:1\r\n" +
			"*3\r\n:16383\r\n:16383\r\n*2\r\n$8\r\n10.0.0.2\r\n:1\r\n"
	case "command":
		return "*1\r\n*6\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
	case "ping":
		return "+PONG\r\n"
	case "get":
		if addr == firstNode && strings.HasPrefix(args[1], "moved") {
			if strings.HasSuffix(args[1], " late") {
				<-time.After(600 * time.Millisecond)
			}
			return "-MOVED 0 " + secondNode + "\r\n"
		}
		if _, text, ok := strings.Cut(args[1], ":"); ok {
			if d, err := time.ParseDuration(text); err == nil {
				<-time.After(d)
			}
		}
		return "$5\r\nvalue\r\n"
	}
	return "-ERR unknown command\r\n" // HELLO too, which go-redis does without
}

// fakeCluster returns a started pool on the fake Cluster, with a connection to either node, and how
// many nanoseconds dials of the first one take from now on.
func fakeCluster(t *testing.T, limit time.Duration) (*redispool.Pool, *atomic.Int64) {
	t.Helper()
	slow := new(atomic.Int64)
	dial := func(_ context.Context, _, addr string) (net.Conn, error) {
		if addr == firstNode {
			<-time.After(time.Duration(slow.Load()))
		}
		return dialFakeCluster(addr), nil
	}
	p, err := redispool.New(redispool.Config{
		Options: &redis.UniversalOptions{
			Addrs: []string{firstNode}, IsClusterMode: true, Dialer: dial,
		},
		MaxOpen: 1, AcquireTimeout: limit, ReadTimeout: time.Minute, KeepAlive: poolkeeper.Off, Logger: silent(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Abort()
		time.Sleep(time.Second) // go-redis pauses after it has asked for the Cluster's state
		synctest.Wait()
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Client().Get(t.Context(), "moved").Err(); err != nil {
		t.Fatal(err)
	}
	return p, slow
}

// occupies has the only connection to a node in use for as long as key says.
func occupies(t *testing.T, p *redispool.Pool, key string) {
	t.Helper()
	go func() {
		if err := p.Client().Get(t.Context(), key).Err(); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
}

// waitsInVain wants the end of a caller's wait after exactly its AcquireTimeout.
func waitsInVain(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	begun := time.Now()
	err := f()
	if took := time.Since(begun); took != limit {
		t.Errorf("%v after %s, want the end of the wait after %s", err, took, limit)
	}
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || e.Waited != limit {
		t.Errorf("%v, want an AcquireError of a caller that waited for %s", err, limit)
	} else if !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
		t.Errorf("%v is no ErrAcquireTimeout", err)
	}
}

// pausesInVain wants the same of a pipeline that got no connection from go-redis, which pauses
// before it returns.
func pausesInVain(t *testing.T, p *redispool.Pool, limit time.Duration, f func() error) {
	t.Helper()
	const onePause = 512 * time.Millisecond // go-redis' longest
	begun := time.Now()
	err := f()
	if took := time.Since(begun); took > limit+onePause {
		t.Errorf("%v after %s, want the end of the wait after %s and one pause", err, took, limit)
	}
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || e.Waited != limit {
		t.Errorf("%v, want an AcquireError of a caller that waited for %s", err, limit)
	}
	if n := p.Stats().AcquireTimeouts; n != 1 {
		t.Errorf("%d have waited in vain, want 1", n)
	}
}

// asCommand and asPipeline get a key from the Cluster.
func asCommand(ctx context.Context, p *redispool.Pool, key string) error {
	return p.Client().Get(ctx, key).Err()
}

func asPipeline(ctx context.Context, p *redispool.Pool, key string) error {
	_, err := p.Client().Pipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Get(ctx, key).Err() })
	return err
}

func TestARedirectedCommandWaitsForOneAcquireTimeoutInAll(t *testing.T) {
	const limit = time.Second
	for name, get := range map[string]func(context.Context, *redispool.Pool, string) error{
		"command": asCommand, "pipeline": asPipeline,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, _ := fakeCluster(t, limit)
				for range 2 { // the second caller inherits nothing
					occupies(t, p, "moved:1200ms")
					occupies(t, p, "here:700ms")
					waitsInVain(t, limit, func() error { return get(t.Context(), p, "moved") })
					time.Sleep(limit)
				}
				occupies(t, p, "moved:1400ms")
				occupies(t, p, "here:500ms")
				if err := get(t.Context(), p, "moved late"); err != nil { // it waits for 500 and 300 ms
					t.Errorf("%v, after a wait within the limit", err)
				}
				synctest.Wait()
			})
		})
	}
}

// A dial at the first node, and the queue of the second, have one AcquireTimeout.
func TestTheDialBeforeARedirectionCountsForTheWait(t *testing.T) {
	const limit = time.Second
	for name, get := range map[string]func(context.Context, *redispool.Pool, string) error{
		"command": asCommand, "pipeline": asPipeline,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, slow := fakeCluster(t, limit)
				time.Sleep(limit) // go-redis asks for the Cluster's state after a MOVED
				occupies(t, p, "moved:3s")
				time.Sleep(limit)
				slow.Store(int64(700 * time.Millisecond))
				p.Reset()
				for p.Stats().Open > 1 { // that of the first node is idle, and goes within moments
					time.Sleep(time.Millisecond)
				}
				synctest.Wait()
				waitsInVain(t, limit, func() error { return get(t.Context(), p, "moved") })
				time.Sleep(2 * limit)
				synctest.Wait()
			})
		})
	}
}

func TestThePauseOfAClusterCountsForTheWait(t *testing.T) {
	const limit = time.Second
	for name, get := range map[string]func(context.Context, *redispool.Pool, string) error{
		"command": asCommand, "pipeline": asPipeline,
		"watch": func(ctx context.Context, p *redispool.Pool, key string) error {
			return p.Client().Watch(ctx, func(*redis.Tx) error { return nil }, key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, slow := fakeCluster(t, limit)
				if err := p.Pause(t.Context()); err != nil { // it closes all connections
					t.Fatal(err)
				}
				slow.Store(int64(700 * time.Millisecond))
				time.AfterFunc(limit/2, p.Resume)
				if name == "pipeline" {
					pausesInVain(t, p, limit, func() error { return get(t.Context(), p, "here") })
					return
				}
				waitsInVain(t, limit, func() error { return get(t.Context(), p, "here") })
			})
		})
	}
}

// The queue and the dial after it have one AcquireTimeout, for a session too.
func TestAWatchWaitsForOneAcquireTimeoutInAll(t *testing.T) {
	const limit = 1500 * time.Millisecond
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: limit, FailFastAfter: poolkeeper.Off}, -1, up)
		go func() { _ = p.Client().Get(t.Context(), "slow").Err() }() // its connection breaks
		synctest.Wait()
		time.AfterFunc(limit/2, func() { l.become(unreachable) })
		waitsInVain(t, limit, func() error {
			return p.Client().Watch(t.Context(), func(*redis.Tx) error { return nil }, "key")
		})
	})
}

// A Cluster's command that does not wait costs no allocation for the waits that it does not have.
func TestCommandsOfAClusterAllocateNoMore(t *testing.T) {
	k := newCluster(t, 1, 0)
	o := k.options()
	o.ContextTimeoutEnabled = true // as the pool has it: go-redis then makes a context for each command
	raw := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = raw.Close() })
	managed := started(t, redispool.Config{Options: k.options()}).Client()
	if err := raw.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, w := range commands {
		r := allocations(t, func() error { return w.do(t.Context(), raw) })
		m := allocations(t, func() error { return w.do(t.Context(), managed) })
		if r == 0 || m > r {
			t.Errorf("%s: managed allocates %v times, raw %v", w.name, m, r)
		}
	}
}
