package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
)

// minPollGap is the least time between two polls of the same server, however many of its callers
// meet errors.
const minPollGap = 100 * time.Millisecond

// poller calls poll again and again, never twice at once: at intervals, give or take a tenth, and
// soon after each call of soon. While it waits it has no goroutine.
type poller struct {
	poll     func(ctx context.Context)
	interval func() time.Duration
	ctx      context.Context //nolint:containedctx // the life of the poller, ended by stop
	cancel   context.CancelFunc
	running  ctxmutex.Mutex // taken while a poll is under way

	mu      sync.Mutex  // guards the following
	timer   *time.Timer // of the next poll; nil: not started
	last    time.Time   // when the last poll began
	busy    bool
	hurried bool // since the poll under way began
	stopped bool
}

func newPoller(poll func(context.Context), interval func() time.Duration) *poller {
	p := &poller{poll: poll, interval: interval, running: ctxmutex.New()}
	p.ctx, p.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ended by stop
	return p
}

// start begins: the first poll comes after one interval. It does nothing after stop.
func (p *poller) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.timer != nil {
		return
	}
	p.last = time.Now()
	// Owner: the set. A poll ends when p.ctx does; wait waits for it.
	p.timer = time.AfterFunc(p.pause(), p.run)
}

func (p *poller) pause() time.Duration {
	return time.Duration(float64(p.interval()) * (0.9 + 0.2*rand.Float64()))
}

func (p *poller) run() {
	p.mu.Lock()
	if p.stopped || p.busy || !p.running.TryLock() {
		p.mu.Unlock()
		return
	}
	p.busy, p.hurried, p.last = true, false, time.Now()
	p.mu.Unlock()

	p.poll(p.ctx) // a panic of a hook ends there

	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.running.Unlock() // before the timer may fire again
	if p.stopped {
		return
	}
	next := p.pause()
	if p.hurried {
		next = min(next, minPollGap)
	}
	p.timer.Reset(next)
}

// soon brings the next poll forward. It does not block, and is cheap enough for the path of traffic
// that fails.
func (p *poller) soon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped || p.timer == nil || p.hurried:
	case p.busy:
		p.hurried = true
	case p.interval() <= minPollGap: // the next poll is soon anyway
	default:
		p.hurried = true
		p.timer.Reset(max(minPollGap-time.Since(p.last), 0))
	}
}

// stop ends the polls, and cancels one under way. It does not wait for it.
func (p *poller) stop() {
	p.mu.Lock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.cancel()
}

// wait waits for a poll under way, at most until ctx ends. stop must have been called.
func (p *poller) wait(ctx context.Context) error {
	if err := p.running.Lock(ctx); err != nil {
		return fmt.Errorf("replica: a poll is still under way: %w", err)
	}
	p.running.Unlock()
	return nil
}
