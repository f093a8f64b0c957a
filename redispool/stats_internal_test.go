package redispool

import (
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// go-redis reads the two numbers one after the other, and they are unsigned.
func TestNoMoreConnectionsAreIdleThanOpen(t *testing.T) {
	for _, c := range []struct {
		total, idle        uint32
		wantOpen, wantIdle int
	}{{8, 3, 8, 3}, {1, 4, 1, 1}, {0, 1, 0, 0}, {0, 0, 0, 0}} {
		open, idle := openAndIdle(&redis.PoolStats{TotalConns: c.total, IdleConns: c.idle})
		if open != c.wantOpen || idle != c.wantIdle {
			t.Errorf("%d of %d: %d of %d, want %d of %d", c.idle, c.total, idle, open, c.wantIdle, c.wantOpen)
		}
	}
}

// Checks and evictions find at once that a node of a Cluster is gone. Its totals count once, and at no
// moment are missing.
func TestTotalsOfANodeThatIsGoneCountOnce(t *testing.T) {
	p, err := New(Config{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	n := p.allNodes()[0]
	n.acquired.total(7)
	want := p.Stats().Acquired
	if want != 7 {
		t.Fatalf("acquired %d", want)
	}
	var wg sync.WaitGroup
	removed := make(chan int, 4)
	for range cap(removed) {
		wg.Go(func() { removed <- len(p.remove([]*node{n})) })
		wg.Go(func() {
			for range 1000 {
				if got := p.Stats().Acquired; got != want {
					t.Errorf("acquired %d, want %d", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
	close(removed)
	times := 0
	for r := range removed {
		times += r
	}
	if got := p.Stats().Acquired; got != want || times != 1 {
		t.Errorf("acquired %d, want %d; removed %d times", got, want, times)
	}
	p.mu.Lock()
	p.nodes = append(p.nodes, n) // Abort closes it
	p.mu.Unlock()
}
