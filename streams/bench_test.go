package streams_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper/streams"
)

// An event to many streams in memory, until all of them have written it. The loop on goroutines is
// what any hub has to do at least.
func BenchmarkBroadcast(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			var done sync.WaitGroup
			b.ReportAllocs()
			for b.Loop() {
				done.Add(n)
				for range n {
					go done.Done()
				}
				done.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/stream")
		})
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			h := started(b, streams.Config{Max: n})
			var wrote sync.WaitGroup
			members := make([]*streams.Member, n)
			for i := range members {
				members[i] = h.JoinSilently(wrote.Done)
				if err := members[i].Subscribe("t"); err != nil {
					b.Fatal(err)
				}
			}
			e := streams.Event{Data: make([]byte, 256)}
			round := func() {
				wrote.Add(n)
				if err := h.Broadcast("t", e); err != nil {
					b.Fatal(err)
				}
				wrote.Wait()
			}
			round() // goroutines and buffers are there
			b.ReportAllocs()
			for b.Loop() {
				round()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/stream")
			b.StopTimer()
			for _, m := range members {
				m.Leave()
			}
		})
	}
}

// What a broadcast allocates does not grow with the number of streams.
func TestBroadcastAllocatesTheSameForManyStreams(t *testing.T) {
	const n = 1000
	h := started(t, streams.Config{})
	var wrote sync.WaitGroup
	members := make([]*streams.Member, n)
	for i := range members {
		members[i] = h.JoinSilently(wrote.Done)
		if err := members[i].Subscribe("t"); err != nil {
			t.Fatal(err)
		}
	}
	e := streams.Event{Data: make([]byte, 256)}
	allocs := testing.AllocsPerRun(20, func() {
		wrote.Add(n)
		if err := h.Broadcast("t", e); err != nil {
			t.Error(err)
		}
		wrote.Wait()
	})
	if allocs > n/10 { // 4, and what the runtime needs for goroutines now and then
		t.Errorf("%.0f allocations for a broadcast to %d streams", allocs, n)
	}
	for _, m := range members {
		m.Leave()
	}
}
