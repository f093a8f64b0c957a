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

// feed delivers events to the logger and to subscribers, in order, one at a time. A goroutine
// exists only while there is something to deliver. No goroutine of the registry waits for a
// subscriber, so a subscriber that hangs delays no shutdown.
type feed struct {
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
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs = append(slices.Clip(f.subs), s)
	f.heard.Store(true)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if i := slices.Index(f.subs, s); i >= 0 {
			f.subs = slices.Delete(slices.Clone(f.subs), i, i+1)
			f.heard.Store(len(f.subs) > 0)
		}
	}
}

// wants reports whether anybody listens to events of a level. It runs no code of the logger's
// handler: Registry.mu may be held.
func (f *feed) wants(level slog.Level) bool {
	return f.heard.Load() || int64(level) >= f.lowest.Load()
}

// askLevel asks the logger which levels it takes. Every delivery begins with it, so that a level
// which is changed while the service runs counts from the next one on.
func (f *feed) askLevel() {
	lowest := slog.LevelError + 1 // none
	_ = guard.Call(func() {       // of a handler that panics in Enabled, nothing can be reported
		for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
			if f.logger.Enabled(f.ctx, l) {
				lowest = l
			}
		}
	})
	f.lowest.Store(int64(lowest))
}

// emit publishes an event of the registry.
func (r *Registry) emit(e event.Event) { r.feed.publish(e) }

func newFeed(ctx context.Context, logger *slog.Logger) *feed {
	f := &feed{ctx: ctx, logger: logger}
	f.lowest.Store(math.MinInt64)
	return f
}

// emitLocked publishes an event of a component, if anybody listens. It only puts it into the queue:
// Registry.mu may be held, which keeps events in the order of what they tell.
func (r *Registry) emitLocked(level slog.Level, make func(event.Info) event.Event, c *call) {
	if r.feed.wants(level) {
		r.feed.publish(make(event.Info{Time: time.Now(), Name: c.n.name, Phase: c.phase.String()}))
	}
}

// emitAboutLocked is emitLocked for a component that is not being called.
func (r *Registry) emitAboutLocked(level slog.Level, make func(event.Info) event.Event, n *node, phase string) {
	if r.feed.wants(level) {
		r.feed.publish(make(event.Info{Time: time.Now(), Name: n.name, Phase: phase}))
	}
}

func (f *feed) publish(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, e)
	if !f.running {
		f.running = true
		go f.deliver()
	}
}

// deliver empties the queue. Owner: the feed; it ends when the queue is empty; flush waits for it.
func (f *feed) deliver() {
	pprof.SetGoroutineLabels(f.ctx) // not those of the component whose goroutine has published first
	f.askLevel()
	for {
		f.mu.Lock()
		if len(f.queue) == 0 {
			f.queue, f.running = nil, false
			if f.idle != nil {
				close(f.idle)
				f.idle = nil
			}
			f.mu.Unlock()
			return
		}
		e, subs := f.queue[0], f.subs
		f.queue = f.queue[1:]
		f.mu.Unlock()
		f.log(e)
		for _, s := range subs {
			f.tell(s, e)
		}
	}
}

// tell calls one subscriber. A panic or a Goexit in it is logged, and does the other subscribers no
// harm.
func (f *feed) tell(s *subscriber, e event.Event) {
	err := guard.Call(func() { s.call(e) })
	if err == nil {
		return
	}
	attrs := []slog.Attr{slog.String("event", e.String()), slog.Any("error", err)}
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		attrs = append(attrs, slog.String("stack", p.Stack))
	}
	f.write(slog.LevelError, "a subscriber to the registry's events failed", attrs...)
}

// write writes one line. A log handler that panics or ends its goroutine does no harm. No logger is
// left to report it.
func (f *feed) write(level slog.Level, text string, attrs ...slog.Attr) {
	_ = guard.Call(func() { f.logger.LogAttrs(f.ctx, level, text, attrs...) })
}

func (f *feed) log(e event.Event) {
	// In guard: attributes classify errors, and texts are made of them, by methods of theirs.
	_ = guard.Call(func() { event.Log(f.ctx, f.logger, e) })
}

const (
	flushLimit = time.Second            // how long a slow subscriber is waited for
	flushGrace = 100 * time.Millisecond // the same when time is over
)

// flush waits until all events so far are delivered: not beyond the deadline but for a moment, and
// not for long.
func (r *Registry) flush(end time.Time) {
	f := r.feed
	f.mu.Lock()
	if !f.running {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	timer := time.NewTimer(min(max(time.Until(end), flushGrace), flushLimit))
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}
