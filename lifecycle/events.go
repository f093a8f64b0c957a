package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// publisher delivers events to the logger and to subscribers, in order, one at a time. A goroutine
// exists only while there is something to deliver. No goroutine of the registry waits for a
// subscriber, so a subscriber that hangs delays no shutdown.
type publisher struct {
	ctx    context.Context //nolint:containedctx // a logger wants one; events belong to no request
	logger *slog.Logger

	heard  atomic.Bool  // there are subscribers; written under mu
	lowest atomic.Int64 // the lowest level the logger takes, as last asked; until then the lowest there is

	mu      sync.Mutex // guards the following
	subs    []*subscriber
	queue   []event.Event
	running bool
	idle    chan struct{} // closed when everything is delivered; nil while no goroutine waits
}

type subscriber struct{ call func(event.Event) }

// Subscribe calls fn for every event from now on, in order and never concurrently, until cancel is
// called; a call under way may still end after that. fn runs on a goroutine of the registry,
// holding nothing: it may call Status and other methods that only look, but must not wait for
// Start, Shutdown or Run, which wait (for a moment) until their events are delivered. A slow fn
// delays other subscribers and the log, but no component.
func (r *Registry) Subscribe(fn func(event.Event)) (cancel func()) {
	s := &subscriber{fn}
	p := r.events
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subs = append(slices.Clip(p.subs), s)
	p.heard.Store(true)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.subs, s); i >= 0 {
			p.subs = slices.Delete(slices.Clone(p.subs), i, i+1)
			p.heard.Store(len(p.subs) > 0)
		}
	}
}

// wants reports whether anybody listens to events of a level. It runs no code of the logger's
// handler: Registry.mu may be held.
func (p *publisher) wants(level slog.Level) bool {
	return p.heard.Load() || int64(level) >= p.lowest.Load()
}

// askLevel asks the logger which levels it takes. Every delivery begins with it, so that a level
// which is changed while the service runs counts from the next one on.
func (p *publisher) askLevel() {
	lowest := slog.LevelError + 1 // none
	_ = guard.Call(func() {       // of a handler that panics in Enabled, nothing can be reported
		for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
			if p.logger.Enabled(p.ctx, l) {
				lowest = l
			}
		}
	})
	p.lowest.Store(int64(lowest))
}

// emit publishes an event of the registry.
func (r *Registry) emit(e event.Event) { r.events.enqueue(e) }

func newPublisher(ctx context.Context, logger *slog.Logger) *publisher {
	p := &publisher{ctx: ctx, logger: logger}
	p.lowest.Store(math.MinInt64)
	return p
}

// emitLocked publishes an event of a component, if anybody listens. It only puts it into the queue:
// Registry.mu may be held, which keeps events in the order of what they tell.
func (r *Registry) emitLocked(level slog.Level, n *node, phase string, make func(event.Info) event.Event) {
	if r.events.wants(level) {
		r.events.enqueueAbout(n, phase, make)
	}
}

func (p *publisher) enqueueAbout(n *node, phase string, make func(event.Info) event.Event) {
	p.enqueue(make(event.Info{Time: time.Now(), Name: n.name, Phase: phase}))
}

func (p *publisher) enqueue(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, e)
	if !p.running {
		p.running = true
		go p.deliver()
	}
}

// deliver empties the queue. Owner: the publisher; it ends when the queue is empty; flush waits for
// it.
func (p *publisher) deliver() {
	pprof.SetGoroutineLabels(p.ctx) // not those of the component whose goroutine has published first
	p.askLevel()
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.queue, p.running = nil, false
			if p.idle != nil {
				close(p.idle)
				p.idle = nil
			}
			p.mu.Unlock()
			return
		}
		e, subs := p.queue[0], p.subs
		p.queue = p.queue[1:]
		p.mu.Unlock()
		switch e.(type) {
		case *event.Pool, *event.Health: // the pool or the monitor has logged it
		default:
			p.log(e)
		}
		for _, s := range subs {
			p.call(s, e)
		}
	}
}

// call calls one subscriber. A panic or a Goexit in it is logged, and does the other subscribers no
// harm.
func (p *publisher) call(s *subscriber, e event.Event) {
	err := guard.Call(func() { s.call(e) })
	if err == nil {
		return
	}
	attrs := []slog.Attr{slog.String("event", e.String()), slog.Any("error", err)}
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		attrs = append(attrs, slog.String("stack", p.Stack))
	}
	p.write(slog.LevelError, "a subscriber to the registry's events failed", attrs...)
}

// write writes one line. A log handler that panics or ends its goroutine does no harm. No logger is
// left to report it.
func (p *publisher) write(level slog.Level, text string, attrs ...slog.Attr) {
	_ = guard.Call(func() { p.logger.LogAttrs(p.ctx, level, text, attrs...) })
}

func (p *publisher) log(e event.Event) {
	// In guard: attributes classify errors, and texts are made of them, by methods of theirs.
	_ = guard.Call(func() { event.Log(p.ctx, p.logger, e) })
}

const (
	flushLimit = time.Second            // how long a slow subscriber is waited for
	flushGrace = 100 * time.Millisecond // the same when time is over
)

// flush waits until all events so far are delivered: not beyond the deadline but for a moment, and
// not for long.
func (r *Registry) flush(end time.Time) {
	p := r.events
	p.mu.Lock()
	if !p.running {
		p.mu.Unlock()
		return
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	timer := time.NewTimer(min(max(time.Until(end), flushGrace), flushLimit))
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}
