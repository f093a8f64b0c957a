package sqlpool

import (
	"context"
	"fmt"
	"sync"
)

// tasks counts what has to end before a pool has stopped: connections, and goroutines that work on
// them. Unlike a sync.WaitGroup, its wait takes a context, and a task may begin while a goroutine
// waits. Its zero value is ready.
type tasks struct {
	mu   sync.Mutex // guards the following
	n    int
	none chan struct{} // closed when n becomes 0; nil: no goroutine waits
}

func (t *tasks) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// run runs f in a goroutine that wait waits for.
func (t *tasks) run(f func()) {
	t.begin()
	go func() {
		defer t.end()
		f()
	}()
}

// wait blocks until nothing is under way, or ctx ends.
func (t *tasks) wait(ctx context.Context) error {
	t.mu.Lock()
	n := t.n
	if n > 0 && t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections are still being opened or closed: %w", context.Cause(ctx))
	}
}
