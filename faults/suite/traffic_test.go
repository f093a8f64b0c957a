package suite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// callers is what uses a client during a round.
type callers struct {
	n        int
	pause    time.Duration // of each caller between two calls; each is between half and one and a half of it
	deadline time.Duration // of one call; 0: none
}

// steady traffic is 500 calls a second, whatever the size of the pool.
func steady(conns int, deadline time.Duration) callers {
	return callers{n: conns, pause: time.Duration(conns) * 2 * time.Millisecond, deadline: deadline}
}

// call is one call of a caller.
type call struct {
	began time.Time
	took  time.Duration
	err   error
}

func (c call) ended() time.Time { return c.began.Add(c.took) }

// traffic is callers at work.
type traffic struct {
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	succeeded atomic.Int64
	resting   atomic.Pointer[chan struct{}] // closed when the callers may go on; nil: they may

	mu    sync.Mutex // guards the following
	calls []call
	under map[int]time.Time // when each caller's call began, of those under way
	ended bool              // calls that end from now on are not counted
}

// begin has callers call until stop. Pauses follow the seed.
func begin(ctx context.Context, c callers, seed uint64, do func(ctx context.Context, n int) error) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cancel: cancel, under: map[int]time.Time{}}
	for n := range c.n {
		chance := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // to be repeated
		t.wg.Go(func() {
			pause(ctx, time.Duration(chance.Float64()*float64(c.pause)))
			for ctx.Err() == nil {
				if rest := t.resting.Load(); rest != nil {
					select {
					case <-ctx.Done():
						return
					case <-*rest:
					}
				}
				t.one(ctx, c.deadline, n, do)
				pause(ctx, time.Duration((0.5+chance.Float64())*float64(c.pause)))
			}
		})
	}
	return t
}

func (t *traffic) one(ctx context.Context, deadline time.Duration, n int, do func(ctx context.Context, n int) error) {
	if deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
	}
	began := time.Now()
	t.mu.Lock()
	t.under[n] = began
	t.mu.Unlock()
	err := do(ctx, n)
	c := call{began: began, took: time.Since(began), err: err}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.under, n)
	if t.ended {
		return
	}
	t.calls = append(t.calls, c)
	if err == nil {
		t.succeeded.Add(1)
	}
}

// errUnderWay is that of a call that had not ended when the traffic was stopped.
var errUnderWay = errors.New("still under way")

// stuck is how long a call must have been under way at the end to count as one that failed.
const stuck = time.Second

// stop ends the traffic, and returns every call that had ended, and those that were stuck. A call
// under way is cancelled. One that does not end by that within 10 s is given up: its caller hangs.
func (t *traffic) stop() (calls []call, hanging bool) {
	t.mu.Lock()
	t.ended = true
	calls = t.calls
	for _, began := range t.under {
		if took := time.Since(began); took > stuck {
			calls = append(calls, call{began: began, took: took, err: errUnderWay})
		}
	}
	t.mu.Unlock()
	t.cancel()
	done := make(chan struct{})
	go func() { t.wg.Wait(); close(done) }()
	select {
	case <-done:
		return calls, false
	case <-time.After(10 * time.Second):
		return calls, true
	}
}

// rest has every caller begin no call for a while, and then all at once.
func (t *traffic) rest(d time.Duration) {
	over := make(chan struct{})
	t.resting.Store(&over)
	sleep(d)
	t.resting.Store(nil)
	close(over)
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sleep is for the length of faults, which nothing can be polled for.
func sleep(d time.Duration) { <-time.After(d) }
