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
	idle []eviction.Conn
	left chan int // how many are idle, after each sweep
}

func (d *depot) Open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.idle)
}

func (d *depot) Peak() int { return 0 }

func (d *depot) Sweep(_ context.Context, s eviction.Sweep) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	actions, _ := s.Choose(d.idle, 0)
	kept := d.idle[:0]
	for i, c := range d.idle {
		if !actions[i].Closes() {
			kept = append(kept, c)
		}
	}
	d.idle = kept
	d.left <- len(kept)
	return s.Next(kept)
}

func (d *depot) Fill(_ context.Context, n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) < n {
		d.idle = append(d.idle, eviction.Conn{Born: time.Now(), Heard: time.Now()})
	}
	return nil
}

func ExampleNew() {
	ctx := context.Background()
	d := &depot{idle: make([]eviction.Conn, 100), left: make(chan int, 1)}
	e := eviction.New(d, eviction.Policy{MinIdle: 2, MaxIdleTime: 50 * time.Millisecond})
	if err := e.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-d.left, "left")
	if err := e.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: 2 left
}

// A pool shows its idle connections, the coldest first, and does what Choose says.
func ExampleSweep_Choose() {
	now := time.Now()
	s := eviction.Sweep{Now: now, Surplus: 2, MinIdle: 1, MaxLifetime: time.Hour, KeepAlive: time.Minute, Batch: 4}
	actions, _ := s.Choose([]eviction.Conn{
		{Born: now.Add(-30 * time.Minute), Heard: now.Add(-9 * time.Minute)},
		{Born: now.Add(-61 * time.Minute), Heard: now.Add(-3 * time.Minute)},
		{Born: now.Add(-30 * time.Minute), Heard: now.Add(-2 * time.Minute)},
		{Born: now.Add(-30 * time.Minute), Heard: now.Add(-2 * time.Second)},
	}, 0)
	for _, a := range actions {
		fmt.Println(a)
	}
	// Output:
	// close: surplus
	// close: expired
	// ping
	// keep
}
