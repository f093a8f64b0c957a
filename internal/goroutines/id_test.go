package goroutines_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// The id stays the same for a goroutine's whole life, wherever its stack moves and whichever thread
// runs it. No other goroutine has it.
func TestIDIsOfOneGoroutine(t *testing.T) {
	const many = 100
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[uint64]int{}
	all := make(chan struct{})
	for i := range many {
		wg.Go(func() {
			if i%10 == 0 {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			first := goroutines.ID()
			mu.Lock()
			seen[first]++
			if len(seen) == many {
				close(all)
			}
			mu.Unlock()
			<-all // all live at once
			for range 20 {
				if now := deep(200); now != first {
					t.Errorf("%d, and then %d", first, now)
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	if seen[0] != 0 {
		t.Error("0 is nobody's")
	}
	if seen[goroutines.ID()] != 0 {
		t.Error("the test's own goroutine has somebody else's")
	}
}

// deep asks on a stack that has had to grow.
func deep(n int) uint64 {
	var room [256]byte
	if n == 0 {
		return goroutines.ID()
	}
	id := deep(n - 1)
	runtime.KeepAlive(&room)
	return id
}

func BenchmarkID(b *testing.B) {
	for b.Loop() {
		if goroutines.ID() == 0 {
			b.Fatal("0")
		}
	}
}
