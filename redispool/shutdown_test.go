package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// refused reports whether the pool turned the command away.
func refused(err error) bool {
	return errors.Is(err, poolkeeper.ErrDraining) || errors.Is(err, poolkeeper.ErrClosed)
}

// drainBegun waits until new work is refused.
func drainBegun(t *testing.T, p *redispool.Pool) {
	t.Helper()
	eventually(t, "new work is refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // the server may be frozen
		defer cancel()
		return refused(p.Client().Ping(ctx).Err())
	})
}

func TestDrainLetsWorkInFlightFinish(t *testing.T) { // INV-8
	srv := testserver.Redis(t)
	// Each piece of work is begun, signals so, and goes on when the drain has begun.
	type step struct{ begun, goOn chan struct{} }
	pause := func(s step) {
		close(s.begun)
		<-s.goOn
	}
	for _, test := range []struct {
		name string
		work func(ctx context.Context, c *redis.Client, s step) error
	}{
		{"command", func(ctx context.Context, c *redis.Client, s step) error {
			close(s.begun)
			return c.Set(ctx, "a", 1, 0).Err()
		}},
		{"pipeline", func(ctx context.Context, c *redis.Client, s step) error {
			close(s.begun)
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "a", 1, 0)
				p.Incr(ctx, "a")
				return nil
			})
			return err
		}},
		{"watch", func(ctx context.Context, c *redis.Client, s step) error {
			return c.Watch(ctx, func(tx *redis.Tx) error {
				pause(s)
				n, err := tx.Get(ctx, "count").Int()
				if err != nil && !errors.Is(err, redis.Nil) {
					return fmt.Errorf("GET in the transaction: %w", err)
				}
				if _, err = tx.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "other").Err() }); err != nil &&
					!errors.Is(err, redis.Nil) {
					return fmt.Errorf("pipeline in the transaction: %w", err)
				}
				_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "count", n+1, 0).Err() })
				return err
			}, "count")
		}},
		{"conn", func(ctx context.Context, c *redis.Client, s step) (err error) {
			conn := c.Conn()
			defer func() { err = errors.Join(err, conn.Close()) }()
			if err = conn.Set(ctx, "a", 1, 0).Err(); err != nil {
				return err
			}
			pause(s)
			_, err = conn.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "a").Err() })
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := started(t, redispool.Config{URL: srv.URL()})
			s := step{make(chan struct{}), make(chan struct{})}
			result := make(chan error, 1)
			ctx := within(t, patience)
			slow := test.name == "command" || test.name == "pipeline"
			if slow {
				srv.Freeze(t)
			}
			go func() { result <- test.work(ctx, single(t, p), s) }()
			<-s.begun
			if slow {
				eventually(t, "it waits for the server", func() bool { return p.Stats().InUse == 1 })
			}
			drained := make(chan error, 1)
			go func() { drained <- p.Drain(ctx) }()
			drainBegun(t, p)
			select {
			case err := <-drained:
				t.Fatalf("drained with work in flight: %v", err)
			default:
			}
			checkRefused(t, p)
			close(s.goOn)
			if slow {
				srv.Thaw(t)
			}
			if err := <-result; err != nil {
				t.Errorf("work begun before the drain: %v", err)
			}
			if err := <-drained; err != nil {
				t.Errorf("Drain: %v", err)
			}
			if err := p.Stop(ctx); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if err := p.Client().Ping(ctx).Err(); !errors.Is(err, poolkeeper.ErrClosed) || !errors.Is(err, redis.ErrClosed) {
				t.Errorf("a command after Stop: %v, want poolkeeper.ErrClosed and redis.ErrClosed", err)
			}
		})
	}
}

// checkRefused tries all that can be begun.
func checkRefused(t *testing.T, p *redispool.Pool) {
	t.Helper()
	c := single(t, p)
	pipe := c.Pipeline()
	get := pipe.Get(t.Context(), "a")
	_, perr := pipe.Exec(t.Context())
	conn := c.Conn()
	werr := c.Watch(t.Context(), func(*redis.Tx) error { t.Error("a watch has begun"); return nil }, "a")
	_, cerr := conn.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "a").Err() })
	for name, err := range map[string]error{
		"pipeline": perr, "command of a pipeline": get.Err(), "watch": werr,
		"conn": conn.Ping(t.Context()).Err(), "pipeline of a conn": cerr,
	} {
		if !errors.Is(err, poolkeeper.ErrDraining) {
			t.Errorf("%s while draining: %v, want ErrDraining", name, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestDrainEndsAtItsDeadlineAndSaysWhoIsLeft(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{URL: srv.URL(), Name: "cache"})
	conn := single(t, p).Conn()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Client().BLPop(within(t, patience), 0, "list").Err() })
	eventually(t, "BLPOP waits", func() bool { return blocked(t, look) == 1 })
	cause := errors.New("out of time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause) // sooner than BLPOP is ended
	defer cancel()
	err := p.Drain(ctx)
	for _, want := range []string{`drain "cache"`, "1 command in flight, 1 connection still held: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Drain = %v; want it to say %q", err, want)
		}
	}
	if !errors.Is(err, cause) {
		t.Errorf("Drain = %v; want it to wrap the cause", err)
	}
	if err := errors.Join(conn.Close(), look.RPush(t.Context(), "list", "x").Err()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := p.Drain(within(t, patience)); err != nil {
		t.Errorf("a second Drain: %v", err)
	}
}

// 64 callers write as fast as they can; the pool is stopped in the middle. Whatever was begun
// before succeeds, and what comes after is refused by name. go-redis' Close fails what is in
// flight.
func TestStopUnderLoadFailsNothingThatWasBegun(t *testing.T) { // INV-8, INV-9
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	const callers, rounds = 64, 8
	load := func(c redis.UniversalClient, enough func() bool, stop func()) (done, failed int64) {
		var ok, bad atomic.Int64
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for {
					err := c.Incr(t.Context(), "n").Err()
					switch {
					case err == nil:
						ok.Add(1)
						continue
					case refused(err) || errors.Is(err, redis.ErrClosed):
					default:
						bad.Add(1)
					}
					return
				}
			})
		}
		for ok.Load() < 500 || !enough() {
			time.Sleep(0)
		}
		stop()
		wg.Wait()
		return ok.Load(), bad.Load()
	}
	var rawFailed int64
	for range rounds {
		p := started(t, redispool.Config{
			Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "managed"}, MaxOpen: callers,
		})
		before, err := look.Get(t.Context(), "n").Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		done, failed := load(p.Client(), func() bool { return p.Stats().Open > 4 }, func() {
			if serr := p.Stop(within(t, patience)); serr != nil {
				t.Errorf("Stop: %v", serr)
			}
		})
		if failed > 0 {
			t.Errorf("%d commands failed that were begun before Stop", failed)
		}
		after, err := look.Get(t.Context(), "n").Int64()
		if err != nil {
			t.Fatal(err)
		}
		if after-before != done {
			t.Errorf("the server has counted %d, the callers %d", after-before, done)
		}
		if n := clients(t, look)["managed"]; n != 0 {
			t.Errorf("the server still sees %d connections after Stop", n)
		}
		raw := redis.NewClient(&redis.Options{Addr: srv.Addr(), PoolSize: callers, MaxRetries: -1})
		_, failed = load(raw, func() bool { return raw.PoolStats().TotalConns > 4 }, func() {
			if err := raw.Close(); err != nil {
				t.Error(err)
			}
		})
		rawFailed += failed
	}
	if rawFailed == 0 {
		t.Error("go-redis' own Close has failed nothing either: the comparison has lost its point")
	}
	t.Logf("%d rounds: 0 failed with Stop, %d with go-redis' Close", rounds, rawFailed)
}

func TestStopCutsAtItsDeadlineAndNamesWhoHeld(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "managed"}, Name: "cache",
	})
	conn := single(t, p).Conn()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- p.Client().BLPop(within(t, patience), 0, "list").Err() }()
	eventually(t, "BLPOP waits", func() bool { return blocked(t, look) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // sooner than the server is asked to end BLPOP
	defer cancel()
	err := p.Stop(ctx)
	var held *poolkeeper.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("Stop = %v, want a HeldError", err)
	}
	if held.Commands != 1 || kinds(held.Holders) != "conn" || held.Cut != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", held)
	}
	for _, want := range []string{`stop "cache"`, "cut off 1 command and 1 connection held by conn for ", " by redispool_test.TestStopCutsAtItsDeadline"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if rerr := <-result; rerr == nil {
		t.Error("the command that was cut off has succeeded")
	}
	eventually(t, "the server sees no connection", func() bool { return clients(t, look)["managed"] == 0 })
	_ = conn.Close()
	if again := p.Stop(t.Context()); !errors.Is(again, err) {
		t.Errorf("a second Stop = %v, want the same error", again)
	}
}

func TestStopAndAbortAreLegalAtAnyTime(t *testing.T) {
	srv := testserver.SharedRedis(t)
	leftovers := goleak.IgnoreCurrent()
	type pool = *redispool.Pool
	for name, life := range map[string]func(p pool) error{
		"stop without start":  func(p pool) error { return p.Stop(t.Context()) },
		"abort without start": func(p pool) error { return p.Abort() },
		"used without start": func(p pool) error {
			return errors.Join(p.Client().Ping(t.Context()).Err(), p.Stop(t.Context()))
		},
		"stop with an ended context": func(p pool) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return errors.Join(p.Start(t.Context()), p.Client().Ping(t.Context()).Err(), p.Stop(ctx))
		},
		"drain without start": func(p pool) error { return errors.Join(p.Drain(t.Context()), p.Stop(t.Context())) },
		"abort twice":         func(p pool) error { return errors.Join(p.Start(t.Context()), p.Abort(), p.Abort()) },
		"stop many times": func(p pool) error {
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = p.Stop(t.Context()) })
			}
			wg.Wait()
			return errors.Join(append(errs, p.Stop(t.Context()))...)
		},
		"start after stop": func(p pool) error {
			err := p.Stop(t.Context())
			if serr := p.Start(t.Context()); !errors.Is(serr, poolkeeper.ErrClosed) {
				return fmt.Errorf("Start after Stop = %w", serr)
			}
			return err
		},
		"start while draining": func(p pool) error {
			err := p.Drain(t.Context())
			if serr := p.Start(t.Context()); !errors.Is(serr, poolkeeper.ErrDraining) {
				return fmt.Errorf("Start after Drain = %w", serr)
			}
			return errors.Join(err, p.Stop(t.Context()))
		},
		"start twice": func(p pool) error {
			err := p.Start(t.Context())
			if p.Start(t.Context()) == nil {
				return errors.New("a second Start has succeeded")
			}
			return errors.Join(err, p.Stop(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := redispool.New(redispool.Config{URL: srv.URL(), MinIdle: 1, Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			if err := life(p); err != nil {
				t.Error(err)
			}
			if s := p.Stats(); s.Open != 0 {
				t.Errorf("%d connections open", s.Open)
			}
			goleak.VerifyNone(t, leftovers)
		})
	}
}

// go-redis' goroutine that asks whether dialling works again sleeps for a second between attempts
// and does not notice that its client was closed.
func TestStopLeavesNoGoroutineBehindADeadServer(t *testing.T) { // INV-9
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 4, MinIdle: 2})
	leftovers := goleak.IgnoreCurrent()
	srv.Kill(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			for ctx.Err() == nil {
				_ = p.Client().Ping(ctx).Err()
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.DialErrors < 4 {
		t.Fatalf("%d failed dials; go-redis has not begun to ask", s.DialErrors)
	}
	begun := time.Now()
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 900*time.Millisecond {
		t.Errorf("Stop took %s; it has waited for go-redis' sleep", took)
	}
	goleak.VerifyNone(t, leftovers)
}

func TestStopIsBoundedWhileTheServerIsFrozen(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL(), MaxOpen: 8, MinIdle: 2})
	eventually(t, "MinIdle is filled", func() bool { return p.Stats().Idle == 2 })
	srv.Freeze(t)
	defer srv.Thaw(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _ = p.Client().Ping(t.Context()).Err() })
	}
	eventually(t, "they are under way", func() bool { return p.Stats().InUse >= 4 }) // more: MinIdle is to be filled again
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	var held *poolkeeper.HeldError
	if err := p.Stop(ctx); !errors.As(err, &held) || held.Commands != 4 {
		t.Errorf("Stop = %v, want a HeldError about 4 commands", err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("Stop took %s under a deadline of 50 ms", took)
	}
	wg.Wait()
}

// A dial that cannot be ended comes back after Stop has given up on it: its connection is closed,
// not used.
func TestStopDuringDialClosesLateConnection(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialling, release := make(chan struct{}, 1), make(chan struct{})
	p := newPool(t, redispool.Config{Options: &redis.UniversalOptions{
		Addrs: []string{l.Addr().String()}, MaxRetries: -1,
		Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
			dialling <- struct{}{}
			<-release                                       // deaf to its context
			return net.DialTimeout(network, addr, patience) // deaf
		},
	}})
	result := make(chan error, 1)
	go func() { result <- p.Client().Ping(t.Context()).Err() }()
	<-dialling
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if serr := p.Stop(ctx); serr == nil || !errors.Is(serr, context.DeadlineExceeded) {
		t.Errorf("Stop with a dial under way = %v", serr)
	}
	close(release)
	late, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	if err = late.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, rerr := late.Read(make([]byte, 100)); n > 0 || rerr == nil {
		t.Errorf("the late connection was used: %d bytes, %v", n, rerr)
	}
	if err = <-result; err == nil {
		t.Error("the command has succeeded")
	}
	if n := p.Stats().Open; n != 0 {
		t.Errorf("%d connections open", n)
	}
}

func TestStopDuringStartEndsIt(t *testing.T) {
	addr := freeAddr(t)
	p := newPool(t, redispool.Config{URL: "redis://" + addr, Start: poolkeeper.StartWaitForServer})
	result := make(chan error, 1)
	go func() { result <- p.Start(t.Context()) }()
	eventually(t, "an attempt has failed", func() bool { return p.Stats().DialErrors > 0 })
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil {
		t.Error("Start has succeeded")
	}
}

// Those that there are go on until Stop.
func TestDrainRefusesNewSubscriptions(t *testing.T) { // INV-8
	srv := testserver.SharedRedis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	ctx := within(t, patience)
	before := p.Client().Subscribe(ctx, "news")
	defer func() { _ = before.Close() }()
	if _, err := before.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	after := p.Client().Subscribe(ctx, "news")
	defer func() { _ = after.Close() }()
	if _, err := after.Receive(ctx); !errors.Is(err, poolkeeper.ErrDraining) {
		t.Errorf("a subscription begun after Drain: %v", err)
	}
	if err := before.Ping(ctx); err != nil {
		t.Errorf("a subscription begun before: %v", err)
	}
}

func TestStopEndsSubscriptions(t *testing.T) {
	srv := testserver.Redis(t)
	look := admin(t, srv.Addr())
	p := started(t, redispool.Config{Options: &redis.UniversalOptions{Addrs: []string{srv.Addr()}, ClientName: "managed"}})
	sub := p.Client().Subscribe(t.Context(), "news")
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	messages := sub.Channel()
	if err := p.Drain(within(t, patience)); err != nil {
		t.Fatalf("Drain waits for nobody's subscription: %v", err)
	}
	if err := look.Publish(t.Context(), "news", "still here").Err(); err != nil {
		t.Fatal(err)
	}
	if m := <-messages; m == nil || m.Payload != "still here" {
		t.Errorf("message while draining: %v", m)
	}
	if err := p.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	for range messages { // until it is closed
	}
	eventually(t, "the server sees no connection", func() bool { return clients(t, look)["managed"] == 0 })
	if err := sub.Close(); err != nil {
		t.Logf("closing a subscription that Stop has ended: %v", err)
	}
}

func TestAbortHurriesAStopUnderWay(t *testing.T) {
	srv := testserver.Redis(t)
	p := started(t, redispool.Config{URL: srv.URL()})
	conn := single(t, p).Conn()
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- p.Stop(within(t, patience)) }()
	drainBegun(t, p)
	err := p.Abort()
	var held *poolkeeper.HeldError
	if !errors.As(err, &held) || kinds(held.Holders) != "conn" {
		t.Errorf("Abort = %v, want a HeldError about the Conn", err)
	}
	if serr := <-result; !errors.Is(serr, err) {
		t.Errorf("Stop = %v, want the same as Abort", serr)
	}
	_ = conn.Close()
}
