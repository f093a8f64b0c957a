package redispooltest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/redispool/redispooltest"
)

// In a test of a service's, tb is its *testing.T, and nothing has to be ended by hand.
func ExampleStart() {
	tb := newTB()
	defer tb.end()

	// A busy machine may need long for what succeeds; what fails is waited for in full.
	const long, short = 30 * time.Second, time.Second
	cache := redispooltest.Start(tb, func(c *redispool.Config) { c.AcquireTimeout = long })
	cache.Client().Set(tb.Context(), "stock", 3, 0)
	get := func(limit time.Duration) {
		ctx, cancel := context.WithTimeout(tb.Context(), limit)
		defer cancel()
		stock, err := cache.Client().Get(ctx, "stock").Int()
		if err != nil {
			fmt.Println("failed:", redispool.Classify(err).Kind)
			return
		}
		fmt.Println("stock:", stock)
	}
	get(long)

	cache.Drop() // every connection is lost, once: go-redis tries again
	get(long)

	cache.Refuse() // the server is gone
	get(short)
	cache.Heal() // and back, with its data
	get(long)

	cache.Hang() // the network drops packets
	get(short)
	cache.Heal()
	get(long)

	if err := cache.Mini.Set("stock", "7"); err != nil { // the server's data can be set and read
		fmt.Println(err)
	}
	get(long)
	// Output:
	// stock: 3
	// stock: 3
	// failed: refused
	// stock: 3
	// failed: timeout
	// stock: 3
	// stock: 7
}

// A planned failover, seen by the code under test.
func ExampleRedis_pause() {
	tb := newTB()
	defer tb.end()
	ctx := tb.Context()
	cache := redispooltest.Start(tb, func(c *redispool.Config) { c.AcquireTimeout = 10 * time.Second })
	cache.Client().Set(ctx, "stock", 3, 0)

	fmt.Println(cache.Pause(ctx))
	time.AfterFunc(50*time.Millisecond, cache.Resume)
	fmt.Println(cache.Client().Get(ctx, "stock").Result()) // waits
	// Output:
	// <nil>
	// 3 <nil>
}

// stand is what an example has in place of a test.
type stand struct {
	testing.TB // nil; what is not overridden is not called

	ctx     context.Context
	cancel  context.CancelFunc
	cleanup []func()
}

func newTB() *stand {
	s := new(stand)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *stand) Helper()                           {}
func (s *stand) Context() context.Context          { return s.ctx }
func (s *stand) Cleanup(f func())                  { s.cleanup = append(s.cleanup, f) }
func (s *stand) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (s *stand) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (s *stand) end() {
	s.cancel()
	for _, f := range slices.Backward(s.cleanup) {
		f()
	}
}
