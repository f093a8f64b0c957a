package life

import (
	"context"
	"fmt"
	"sync"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// Closer closes a native handle once, in a goroutine, because no handle's Close takes a context. Its
// zero value is ready. It is safe for concurrent use.
type Closer struct {
	once sync.Once
	done chan struct{} // closed when err is set
	err  error
}

// Do calls f unless an earlier call has, and waits until f has returned or ctx ends.
func (k *Closer) Do(ctx context.Context, f func() error) error {
	k.once.Do(func() {
		k.done = make(chan struct{})
		// Owner: the caller that stops the pool. It waits for this goroutine up to its own
		// deadline. The goroutine ends when f returns.
		go func() {
			defer close(k.done)
			if caught := guard.Call(func() { k.err = f() }); caught != nil {
				k.err = caught
			}
		}()
	})
	if !Closed(ctx, k.done) {
		return fmt.Errorf("idle connections are still being closed: %w", context.Cause(ctx))
	}
	return k.err
}
