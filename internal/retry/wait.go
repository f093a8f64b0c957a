package retry

import (
	"context"
	"runtime"
	"time"
)

// Sleep waits for d. It reports false if ctx ended before.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Briefly waits until done holds, which is expected to be a matter of microseconds: it yields, then
// sleeps, and gives up after about a millisecond.
func Briefly(ctx context.Context, done func() bool) {
	const yields, sleeps = 32, 8
	for i := 0; i < yields+sleeps && !done(); i++ {
		if i < yields {
			runtime.Gosched()
		} else {
			Sleep(ctx, 100*time.Microsecond)
		}
	}
}
