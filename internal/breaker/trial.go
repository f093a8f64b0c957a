package breaker

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

const (
	// A server that refuses is asked again after a pause between these, drawn at random.
	refusedMin = 100 * time.Millisecond
	refusedMax = 250 * time.Millisecond
	// One that is silent gets a new trial this often, for an old one may have been sent into a hole
	// in the network.
	silentEvery = time.Second
	// maxTrials is how many trials are under way at most.
	maxTrials = 3
)

// decide waits until no connection could be opened for after, with a trial that failed near the end
// of it, and reports true; or until the server has answered, and reports false. The first trial
// begins half-way, so that a silent server is not waited for twice.
func (b *Breaker) decide(ctx context.Context, d *doubts, after time.Duration) bool {
	due := d.since.Add(after)
	for at := d.since.Add(after / 2); retry.Sleep(ctx, at.Sub(monotime.Now())); {
		if b.suspended() {
			at = monotime.Now().Add(after)
			due = at
			continue
		}
		if b.cfg.Alive != nil && b.cfg.Alive(d.since) {
			b.clear(d)
			return false
		}
		if b.answered(d, b.try(ctx, min(b.cfg.TrialTimeout(), after))) {
			return false
		}
		if monotime.Now() >= due && !b.suspended() {
			return ctx.Err() == nil
		}
		at = due
	}
	return false
}

func (b *Breaker) suspended() bool { return b.cfg.Suspended != nil && b.cfg.Suspended() }

// fall declares the server down, and asks for it until it answers or the Breaker stops.
func (b *Breaker) fall(ctx context.Context, d *doubts) {
	b.mu.Lock()
	if b.doubts != d {
		b.mu.Unlock()
		return
	}
	down := b.cfg.Error(d.since.Wall(), d.last)
	b.down.Store(down)
	if b.end != nil {
		b.end(down)
	}
	b.mu.Unlock()
	b.cfg.WentDown(down)
	b.await(ctx, d)
	b.mu.Lock()
	cleared := d.cleared
	b.mu.Unlock()
	if cleared {
		b.cfg.CameUp(monotime.Since(d.since))
	}
}

// await runs trials until one is answered, or ctx ends.
func (b *Breaker) await(ctx context.Context, d *doubts) {
	ts := &trials{results: make(chan *trial)}
	defer func() {
		d.cancel()
		for range ts.underway { // they end with ctx
			<-ts.results
		}
	}()
	next := time.NewTimer(b.pause(d))
	defer next.Stop()
	for {
		select {
		case <-next.C:
			if !ts.replaceOne() {
				b.begin(ctx, ts)
			}
			next.Reset(b.spread(silentEvery))
		case t := <-ts.results:
			ts.underway = slices.DeleteFunc(ts.underway, func(x *trial) bool { return x == t })
			switch {
			case ctx.Err() != nil || b.answered(d, t.err):
				return
			case t.replaced:
				b.begin(ctx, ts)
			case len(ts.underway) == 0:
				next.Reset(b.pause(d))
			}
		case <-ctx.Done():
			return
		}
	}
}

// trials are the attempts to reach a server that is down. Only await's goroutine uses them.
type trials struct {
	underway []*trial // the eldest first
	results  chan *trial
}

// trial is one attempt.
type trial struct {
	cancel   context.CancelFunc
	replaced bool // it was cancelled to make room for a younger one
	err      error
}

// replaceOne cancels a trial if as many are under way as may be. The eldest has all the time that a
// slow link may need.
func (ts *trials) replaceOne() bool {
	if len(ts.underway) < maxTrials {
		return false
	}
	ts.underway[1].replaced = true
	ts.underway[1].cancel()
	return true
}

// begin begins a trial.
func (b *Breaker) begin(ctx context.Context, ts *trials) {
	ctx, cancel := context.WithCancel(ctx)
	t := &trial{cancel: cancel}
	ts.underway = append(ts.underway, t)
	go func() { // await waits for it
		defer cancel()
		t.err = b.try(ctx, b.cfg.TrialTimeout())
		ts.results <- t
	}()
}

// spread returns pause, or a random time around Spread's mean if that is longer.
func (b *Breaker) spread(pause time.Duration) time.Duration {
	if b.cfg.Spread == nil {
		return pause
	}
	mean := b.cfg.Spread()
	return max(pause, mean/2+time.Duration(rand.Float64()*float64(mean)))
}

// pause is the time to the next trial when none is under way.
func (b *Breaker) pause(d *doubts) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.silent {
		return b.spread(silentEvery)
	}
	return b.spread(refusedMin + rand.N(refusedMax-refusedMin))
}
