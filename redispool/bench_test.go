package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/test/paired"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// beside returns a raw client with go-redis' defaults and a managed one, started, on the same
// server. Holders' stacks are kept, and leaks watched for.
func beside(tb testing.TB) (raw, managed redis.UniversalClient) {
	tb.Helper()
	srv := testserver.SharedRedis(tb)
	o, err := redis.ParseURL(srv.URL())
	if err != nil {
		tb.Fatal(err)
	}
	r := redis.NewClient(o)
	tb.Cleanup(func() {
		if cerr := r.Close(); cerr != nil {
			tb.Error(cerr)
		}
	})
	p := started(tb, redispool.Config{URL: srv.URL()})
	if err := r.Set(tb.Context(), "key", "value", 0).Err(); err != nil {
		tb.Fatal(err)
	}
	return r, p.Client()
}

// work is what is compared.
type work struct {
	name string
	do   func(ctx context.Context, c redis.UniversalClient) error
}

var commands = []work{
	{"GET", func(ctx context.Context, c redis.UniversalClient) error { return c.Get(ctx, "key").Err() }},
	{"SET", func(ctx context.Context, c redis.UniversalClient) error { return c.Set(ctx, "key", "value", 0).Err() }},
	{"pipeline10", func(ctx context.Context, c redis.UniversalClient) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 10 {
				p.Get(ctx, "key")
			}
			return nil
		})
		return err
	}},
}

// sessions are the same on a connection that is lent for it, and a transaction.
var sessions = []work{
	{"conn", func(ctx context.Context, c redis.UniversalClient) error {
		one := c.(*redis.Client).Conn() //nolint:errcheck,forcetypeassert // it is one
		return errors.Join(one.Get(ctx, "key").Err(), one.Close())
	}},
	{"watch", func(ctx context.Context, c redis.UniversalClient) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "other", "value", 0)
				return nil
			})
			return err
		}, "key")
	}},
}

// allocations returns how often one operation allocates.
func allocations(tb testing.TB, operation func() error) float64 {
	tb.Helper()
	return testing.AllocsPerRun(200, func() {
		if err := operation(); err != nil {
			tb.Error(err)
		}
	})
}

// BenchmarkPaired reports what management adds to a command. For figures that are worth something:
// -benchtime 200x. Each case has clients of its own, which have as many connections open as there
// are callers, but for "open=16", where a burst has gone by.
func BenchmarkPaired(b *testing.B) {
	for _, w := range slices.Concat(commands, sessions) {
		for _, c := range []struct{ callers, open int }{{1, 1}, {16, 16}, {1, 16}} {
			name := fmt.Sprintf("%s/callers=%d", w.name, c.callers)
			if c.open != c.callers {
				name += fmt.Sprintf("/open=%d", c.open)
			}
			b.Run(name, func(b *testing.B) {
				raw, managed := beside(b)
				onRaw := func() error { return w.do(b.Context(), raw) }
				onManaged := func() error { return w.do(b.Context(), managed) }
				r, m := allocations(b, onRaw), allocations(b, onManaged)
				look := admin(b, testserver.SharedRedis(b).Addr())
				together(b, look, raw, c.open)
				together(b, look, managed, c.open)
				paired.Run(b, c.callers, onRaw, onManaged)
				b.ReportMetric(r, "raw-allocs")
				b.ReportMetric(m-r, "extra-allocs")
			})
		}
	}
}

// With leak tracking on.
func TestManagedCommandsAllocateNoMore(t *testing.T) {
	raw, managed := beside(t)
	for _, w := range commands {
		r := allocations(t, func() error { return w.do(t.Context(), raw) })
		m := allocations(t, func() error { return w.do(t.Context(), managed) })
		if r == 0 || m > r {
			t.Errorf("%s: managed allocates %v times, raw %v", w.name, m, r)
		}
	}
}

// A session costs a few allocations for its place in the books, and a command for each of the ways
// in which it is used (see token.go), and none for waits that it does not have: also when the Conn
// before it was closed a moment ago, and still counts.
func TestSessionsDoNotPayForWaits(t *testing.T) {
	raw, managed := beside(t)
	for _, w := range sessions {
		ctx := t.Context()
		r := allocations(t, func() error { return w.do(ctx, raw) })
		ways := allocations(t, func() error {
			one := raw.(*redis.Client).Conn() //nolint:errcheck,forcetypeassert // it is one
			err := one.Ping(ctx).Err()
			if w.name == "watch" {
				_, err = one.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Ping(ctx).Err() })
			}
			return errors.Join(err, one.Close())
		}) - allocations(t, func() error { return raw.(*redis.Client).Conn().Close() }) //nolint:errcheck,forcetypeassert // as above
		m := allocations(t, func() error { return w.do(ctx, managed) })
		if r == 0 || m > r+ways+8 {
			t.Errorf("%s: managed allocates %v times, raw %v, and the commands with tokens %v", w.name, m, r, ways)
		}
	}
}
