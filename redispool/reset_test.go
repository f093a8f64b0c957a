package redispool_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// Reset may be called for each of many failures: it costs one goroutine, not one a call.
func TestRecycleInALoopCostsOneGoroutine(t *testing.T) {
	srv := miniredis.RunT(t)
	p := started(t, redispool.Config{URL: "redis://" + srv.Addr(), MaxOpen: 16})
	var conns []*redis.Conn
	for range 16 {
		c := single(t, p).Conn()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	before, most := runtime.NumGoroutine(), 0
	for range 20_000 {
		p.Reset()
		most = max(most, runtime.NumGoroutine()-before)
	}
	if most > 50 { // those of the connections that are closed, and of the pool's own work
		t.Errorf("up to %d goroutines more", most)
	}
	dials := p.Stats().Dials
	if err := p.Client().Ping(context.WithoutCancel(t.Context())).Err(); err != nil {
		t.Error(err)
	}
	eventually(t, "nothing that was open is left", func() bool {
		s := p.Stats()
		return s.Dials > dials || s.Evicted["reload"] >= 16
	})
}
