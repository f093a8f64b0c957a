package outage_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// perSecond bounds the attempts to reach a server that is down.
const perSecond = 10

// A service starts while its server is not there. Its callers are told so at once: they dial
// nothing and wait for nothing.
func TestCallsDialNothingWhileTheServerIsDown(t *testing.T) {
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			s := lib.managed(t, testkit.FreeAddr(t))
			const calls = 10_000
			dialled, began := s.dials.Load(), time.Now()
			var costs []time.Duration
			for range calls {
				call := time.Now()
				err := s.call(t.Context()) // without a deadline of its own
				costs = append(costs, time.Since(call))
				if !errors.Is(err, poolkeeper.ErrDown) {
					t.Fatalf("got %v, want poolkeeper.ErrDown", err)
				}
			}
			slices.Sort(costs)
			t.Logf("a call costs %s in the median, %s at most", costs[calls/2], costs[calls-1])
			most := int64(perSecond * (1 + time.Since(began).Seconds()))
			if n := s.dials.Load() - dialled; n > most {
				t.Errorf("%d dials, want %d at most: those of the breaker", n, most)
			}
		})
	}
}

// A handler that reads through a cache falls back to its database when the cache is down.
func TestACacheThatIsDownCostsItsHandlerNothing(t *testing.T) {
	cache := managedRedis(t, testkit.FreeAddr(t))
	database := func(context.Context) { sleep(time.Millisecond) }
	handlers := map[string]func(context.Context){
		"no cache": database,
		"a cache that is down": func(ctx context.Context) {
			if cache.call(ctx) != nil {
				database(ctx)
			}
		},
	}
	costs := map[string][]time.Duration{}
	const requests = 500
	for range requests {
		for name, handle := range handlers {
			began := time.Now()
			handle(t.Context())
			costs[name] = append(costs[name], time.Since(began))
		}
	}
	for name, c := range costs {
		slices.Sort(c)
		t.Logf("%s: median %s, p99 %s", name, c[requests/2], c[requests*99/100])
	}
	if without, with := costs["no cache"][requests/2], costs["a cache that is down"][requests/2]; with > 10*without {
		t.Errorf("the median is %s with a cache that is down, %s without a cache", with, without)
	}
}
