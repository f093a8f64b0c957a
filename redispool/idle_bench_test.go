package redispool_test

import (
	"fmt"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// BenchmarkLookThroughIdle is what a sweep takes before it closes or asks anything: all that is
// idle, out of go-redis' pool and back. For the greater part of it callers wait. Holders does it
// too, while there is a Conn.
func BenchmarkLookThroughIdle(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("idle=%d", n), func(b *testing.B) {
			srv := testserver.SharedRedis(b)
			p := started(b, redispool.Config{URL: srv.URL(), MaxOpen: n + 1})
			together(b, admin(b, srv.Addr()), p.Client(), n+1)
			held := single(b, p).Conn()
			defer func() {
				if err := held.Close(); err != nil {
					b.Error(err)
				}
			}()
			if err := held.Ping(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			dials := p.Stats().Dials
			for b.Loop() {
				p.Holders()
			}
			if p.Stats().Dials != dials {
				b.Errorf("%d dials", p.Stats().Dials-dials)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/conn")
		})
	}
}
