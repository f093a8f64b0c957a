package redispool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// hostile is the code of a service. Each part of it calls fault, while that is set.
type hostile struct {
	fault atomic.Pointer[func()]
	part  string       // which one does
	epoch atomic.Int64 // connections made before it changed last are broken
}

func (h *hostile) may(part string) {
	if f := h.fault.Load(); f != nil && part == h.part {
		(*f)()
	}
}

func (h *hostile) dial(context.Context, string, string) (net.Conn, error) {
	h.may("Dialer")
	return hostileConn{newFakeServer(), h, h.epoch.Load()}, nil
}

// breakAll ends all connections, which only shows when they are used.
func (h *hostile) breakAll() { h.epoch.Add(1) }

func (h *hostile) credentials(context.Context) (user, password string, err error) {
	h.may("Credentials")
	return "u", "p", nil
}

func (h *hostile) Observe(error) { h.may("Observer") }

func (h *hostile) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.may("DialHook")
		return next(ctx, network, addr)
	}
}

func (*hostile) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (*hostile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

type hostileConn struct {
	net.Conn

	service *hostile
	epoch   int64
}

func (c hostileConn) Read(b []byte) (int, error) {
	if c.epoch != c.service.epoch.Load() {
		return 0, io.EOF
	}
	return c.Conn.Read(b)
}

func (c hostileConn) Close() error {
	_ = c.Conn.Close()
	c.service.may("Close")
	return nil
}

func (c hostileConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "ping") {
		c.service.may("Write")
	}
	return c.Conn.Write(b)
}

// The process lives, no place is lost, Stop ends, and the event has the stack.
func TestCodeOfTheServiceThatPanicsIsAnEventAndNoMore(t *testing.T) {
	for _, part := range []string{"Dialer", "Credentials", "Observer", "DialHook", "Close", "Write"} {
		for how, f := range map[string]func(){"panic": func() { panic("service") }, "goexit": runtime.Goexit} {
			t.Run(part+" "+how, func(t *testing.T) {
				synctest.Test(dropsTimers(t), func(t *testing.T) { surviveFault(t, part, how, f) })
			})
		}
	}
}

func surviveFault(t *testing.T, part, how string, f func()) {
	t.Helper()
	var out testkit.Log
	h := &hostile{part: part}
	p := newPool(t, redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"x:1"}, MaxRetries: -1, Dialer: h.dial}, Credentials: h.credentials,
		MaxOpen: 3, MinIdle: 2, KeepAlive: time.Second, MaxLifetime: 20 * time.Second, Logger: out.Logger(),
	})
	p.ObserveWith(h)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Client().AddHook(h) // after Start: it sees the dials
	h.fault.Store(&f)
	for i := range 20 {
		if i%5 == 4 {
			h.breakAll()
		}
		if i%7 == 6 {
			p.Reset()
		}
		done := make(chan struct{})
		// Owner: this test. It ends with its command; a Goexit may end it too.
		go func() {
			defer close(done)
			defer func() { _ = recover() }() // code that go-redis calls on a caller's goroutine is the caller's
			_ = p.Client().Get(t.Context(), "k").Err()
		}()
		<-done
		_ = p.Check(t.Context())
		time.Sleep(5 * time.Second)
	}
	h.fault.Store(nil)
	time.Sleep(time.Minute)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
				t.Errorf("a place is lost: %v", err)
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	wasTold(t, &out, how)
}

// A Reload, an inspection and the breaker's trials use the service's Dialer too.
func TestADialerThatPanicsLeavesReloadAndTheBreakerAtWork(t *testing.T) {
	for how, f := range map[string]func(){"panic": func() { panic("service") }, "goexit": runtime.Goexit} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				var out testkit.Log
				h := &hostile{part: "Dialer"}
				var refuses atomic.Bool
				cfg := redispool.Config{
					Options: &redis.UniversalOptions{
						Addrs: []string{"x:1"}, MaxRetries: -1,
						Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
							if refuses.Load() {
								return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
							}
							return h.dial(ctx, network, addr)
						},
					},
					MaxOpen: 2, KeepAlive: poolkeeper.Off, FailFastAfter: 2 * time.Second, Logger: out.Logger(),
				}
				p := newPool(t, cfg)
				if err := p.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				get := func() error { return p.Client().Get(t.Context(), "k").Err() }
				if err := get(); err != nil {
					t.Fatal(err)
				}
				h.fault.Store(&f)
				h.breakAll()
				if err := get(); err == nil {
					t.Error("GET on a connection that is broken")
				}
				time.Sleep(time.Second) // for the inspection
				wasTold(t, &out, how)
				cfg.Credentials = h.credentials
				if err := p.Reload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "the Dialer") {
					t.Errorf("Reload = %v", err)
				}
				refuses.Store(true)
				for range 10 {
					_ = get()
					time.Sleep(time.Second)
				}
				if err := get(); !errors.Is(err, poolkeeper.ErrDown) {
					t.Errorf("GET = %v", err)
				}
				refuses.Store(false) // trials panic now
				time.Sleep(10 * time.Second)
				h.fault.Store(nil)
				time.Sleep(10 * time.Second)
				if err := get(); err != nil {
					t.Errorf("GET: %v", err)
				}
				if err := p.Stop(t.Context()); err != nil {
					t.Errorf("Stop: %v", err)
				}
			})
		})
	}
}

// wasTold checks that there was an event, and of a panic with its stack.
func wasTold(t *testing.T, out *testkit.Log, how string) {
	t.Helper()
	lines := out.String()
	if !strings.Contains(lines, "kind=panic") || how == "panic" && !strings.Contains(lines, "guarded_test.go") {
		t.Errorf("no event of the %s in\n%.3000s", how, lines)
	}
}
