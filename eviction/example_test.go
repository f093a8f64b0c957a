package eviction_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/eviction"
)

// depot is a pool of nothing in particular, with a burst behind it. No caller uses it, so its peak
// is 0.
type depot struct {
	mu   sync.Mutex // guards idle
	idle int
}

func (d *depot) Open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.idle
}

func (d *depot) Peak() int { return 0 }

func (d *depot) Sweep(_ context.Context, s eviction.Sweep) (eviction.Swept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(s.Surplus, d.idle-s.MinIdle)
	d.idle -= n
	return eviction.Swept{Idle: n}, nil
}

func (d *depot) Fill(_ context.Context, n int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	opened := max(0, n-d.idle)
	d.idle += opened
	return opened, nil
}

func ExampleNew() {
	ctx := context.Background()
	d := &depot{idle: 100}
	e := eviction.New(d, eviction.Policy{MinIdle: 2, MaxIdleTime: 50 * time.Millisecond})
	if err := e.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for d.Open() > 2 { // a program would leave this to the timer
		if _, err := e.Round(ctx); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := e.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(d.Open(), "left")
	// Output: 2 left
}
