package sqlpool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// hurryLimit is the least time between two looks at the same server, however many of its callers
// meet errors.
const hurryLimit = 100 * time.Millisecond

// rounds calls look again and again, never twice at once: at intervals, give or take a tenth, and
// soon after each hurry. While it waits it has no goroutine.
type rounds struct {
	look     func(ctx context.Context)
	interval func() time.Duration
	ctx      context.Context //nolint:containedctx // the life of the rounds, ended by stop
	cancel   context.CancelFunc
	looking  tasks // the look under way

	mu      sync.Mutex  // guards the following
	timer   *time.Timer // of the next look; nil: not started
	last    time.Time   // when the last look began
	busy    bool
	hurried bool // since the look under way began
	stopped bool
}

func newRounds(look func(context.Context), interval func() time.Duration) *rounds {
	r := &rounds{look: look, interval: interval}
	r.ctx, r.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ended by stop
	return r
}

// start begins: the first look comes after one interval.
func (r *rounds) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.timer != nil {
		return
	}
	r.last = time.Now()
	// Owner: the Replicated. A look ends when ctx does; stop waits for it.
	r.timer = time.AfterFunc(r.pause(), r.round)
}

func (r *rounds) pause() time.Duration {
	return time.Duration(float64(r.interval()) * (0.9 + 0.2*rand.Float64()))
}

func (r *rounds) round() {
	r.mu.Lock()
	if r.stopped || r.busy {
		r.mu.Unlock()
		return
	}
	r.busy, r.hurried, r.last = true, false, time.Now()
	r.looking.begin()
	r.mu.Unlock()
	defer r.looking.end()

	r.look(r.ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	if r.stopped {
		return
	}
	next := r.pause()
	if r.hurried {
		next = min(next, hurryLimit)
	}
	r.timer.Reset(next)
}

// hurry has the next look come soon. It does not block, and is cheap enough for the path of traffic
// that fails.
func (r *rounds) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped || r.timer == nil || r.hurried:
	case r.busy:
		r.hurried = true
	case r.interval() <= hurryLimit: // the next look is soon anyway
	default:
		r.hurried = true
		r.timer.Reset(max(hurryLimit-time.Since(r.last), 0))
	}
}

// stop ends the rounds. wait waits for a look under way, which stop has told to end.
func (r *rounds) stop() {
	r.mu.Lock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.cancel()
}

func (r *rounds) wait(ctx context.Context) error {
	if err := r.looking.wait(ctx); err != nil {
		return fmt.Errorf("sqlpool: a look is still under way: %w", err)
	}
	return nil
}
