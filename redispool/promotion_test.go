package redispool_test

import (
	"bufio"
	"context"
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

// fakePromotion is a name, and what it leads to. A connection stays with the server that the name
// led to as it was dialled.
type fakePromotion struct {
	replica atomic.Bool // the name leads to a replica
	role    atomic.Bool // replicas call themselves primaries all the same
	dials   atomic.Int64
}

func (f *fakePromotion) dial(context.Context, string, string) (net.Conn, error) {
	f.dials.Add(1)
	replica := f.replica.Load()
	client, server := net.Pipe()
	// It ends when the client's end is closed.
	go func() {
		defer func() { _ = server.Close() }()
		in := bufio.NewReader(server)
		for queued := 0; ; {
			args, err := readCommand(in)
			if err != nil {
				return
			}
			reply := "-ERR unknown command\r\n" // HELLO too, which go-redis does without
			switch command := strings.ToLower(args[0]); {
			case command == "ping":
				reply = "+PONG\r\n"
			case command == "multi":
				queued, reply = 0, "+OK\r\n"
			case command == "incr" && replica:
				reply = "-READONLY You can't write against a read only replica.\r\n"
			case command == "incr":
				queued++
				reply = "+QUEUED\r\n"
			case command == "exec" && replica:
				reply = "-EXECABORT Transaction discarded because of previous errors.\r\n"
			case command == "exec":
				reply = "*1\r\n:1\r\n"
			case command == "role" && replica && !f.role.Load():
				reply = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
			case command == "role":
				reply = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
			}
			if _, err := io.WriteString(server, reply); err != nil {
				return
			}
		}
	}()
	return client, nil
}

// writes sends a transaction every 10 ms for d, and counts those that fail. go-redis keeps the
// connection of one that is refused.
func writes(t *testing.T, p *redispool.Pool, d time.Duration) (failed int) {
	t.Helper()
	const every = 10 * time.Millisecond
	for range d / every {
		_, err := p.Client().TxPipelined(t.Context(), func(tx redis.Pipeliner) error { return tx.Incr(t.Context(), "n").Err() })
		if err != nil {
			failed++
		}
		time.Sleep(every)
	}
	return failed
}

func (f *fakePromotion) pool(t *testing.T) *redispool.Pool {
	t.Helper()
	return started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"10.0.0.1:1"}, Dialer: f.dial, MaxRetries: -1},
		MaxOpen: 4, KeepAlive: poolkeeper.Off, Logger: silent(),
	})
}

// A failover whose name moves 5 s late. Until then new connections lead to the old server too.
func TestPoolFindsThePromotedServerSoonAfterTheNameMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropsTimers(t)
		f := new(fakePromotion)
		p := f.pool(t)
		f.replica.Store(true)
		p.Reset()
		dials := f.dials.Load()
		if failed := writes(t, p, 5*time.Second); failed != 500 {
			t.Fatalf("%d of 500 writes failed on a replica", failed)
		}
		if got := f.dials.Load() - dials; got > 60 {
			t.Errorf("%d dials in 5 s", got)
		}
		f.replica.Store(false) // the name moves
		if failed := writes(t, p, 5*time.Second); failed == 0 || failed > 20 {
			t.Errorf("%d writes failed after the name had moved, one every 10 ms; want 1 to 20", failed)
		}
		evicted := p.Stats().Evicted["failover"]
		if failed := writes(t, p, time.Minute); failed > 0 || p.Stats().Evicted["failover"] != evicted {
			t.Errorf("%d writes failed later; %d connections were condemned before, %d now", failed, evicted, p.Stats().Evicted["failover"])
		}
	})
}

// Where a name leads to several servers, seekers may reach a primary while callers do not.
func TestSeekersCondemnOnceBetweenTwoGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropsTimers(t)
		f := new(fakePromotion)
		f.replica.Store(true)
		f.role.Store(true)
		p := f.pool(t)
		before := p.Stats().Generation
		writes(t, p, 10*time.Second)
		if got := p.Stats().Generation - before; got < 4 || got > 8 { // 4 in 10 s without seekers
			t.Errorf("%d generations were condemned in 10 s, want 4 to 8", got)
		}
	})
}

func TestServerThatStaysReadOnlyIsNotStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropsTimers(t)
		f := new(fakePromotion)
		f.replica.Store(true)
		p := f.pool(t)
		dials := f.dials.Load()
		writes(t, p, 5*time.Minute)
		if got := f.dials.Load() - dials; got > 160 {
			t.Errorf("%d dials in 5 minutes", got)
		}
	})
}
