// Package retry repeats what failed, with growing pauses: 1 s, doubling to 30 s, each up to a
// quarter shorter at random, so that replicas that started together do not knock together. It also
// waits for a while, or for what comes at once.
package retry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	first = time.Second
	last  = 30 * time.Second
)

// Failure is one attempt that failed.
type Failure struct {
	Attempt int           // counted from 1
	Next    time.Duration // the pause before the next attempt, if there is one
	Err     error
}

// Until calls attempt until it returns nil. After each failure it asks failed whether to try again,
// and if not returns what failed has returned. When ctx ends, the error wraps its cause and the
// last failure. Neither function is called concurrently.
func Until(
	ctx context.Context, attempt func(context.Context) error, failed func(Failure) (again bool, result error),
) error {
	for n := 1; ; n++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ended(ctx, n, err)
		}
		pause := Pause(n, rand.Float64())
		if again, result := failed(Failure{Attempt: n, Next: pause, Err: err}); !again {
			return result
		}
		if !Sleep(ctx, pause) {
			return ended(ctx, n, err)
		}
	}
}

func ended(ctx context.Context, attempts int, err error) error {
	return fmt.Errorf("%w (last of %d attempts: %w)", context.Cause(ctx), attempts, err)
}

// Pause is how long to wait after failed attempt n, counted from 1. draw is a random number in [0,
// 1).
func Pause(n int, draw float64) time.Duration {
	d := last
	if n <= 5 { // 1 s << 5 is past last
		d = min(first<<(n-1), last)
	}
	return d - time.Duration(draw*float64(d)/4)
}
