package lifecycle

import (
	"context"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// feed delivers events to the logger and to subscribers, in order, one at a time. A goroutine is there only while
// there is something to deliver, and none of the registry's own ever waits for a subscriber: one that hangs delays
// nobody's shutdown.
type feed struct {
	ctx    context.Context //nolint:containedctx // a logger wants one; events are nobody's request
	logger *slog.Logger

	heard atomic.Bool // there are subscribers; written under mu

	mu      sync.Mutex // guards the following
	subs    []*subscriber
	queue   []Event
	running bool
	idle    chan struct{} // closed when everything is delivered; nil while nobody waits
}

type subscriber struct{ call func(Event) }

// Subscribe calls fn for every event from now on, in order and never concurrently, until cancel is called; a call under
// way may still end after that. fn runs on a goroutine of the registry, holding nothing: it may call Status and other
// methods that only look, but must not wait for Start, Shutdown or Run, which wait (for a moment) until their events
// are delivered. A slow fn delays other subscribers and the log, but no component.
func (r *Registry) Subscribe(fn func(Event)) (cancel func()) {
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

// wants reports whether anybody listens to events of a level.
func (f *feed) wants(level slog.Level) bool {
	return f.heard.Load() || f.logs(level)
}

func (f *feed) logs(level slog.Level) bool {
	return f.logger.Enabled(f.ctx, level)
}

// emit publishes an event of the registry.
func (r *Registry) emit(e Event) {
	if r.feed.wants(e.level()) {
		r.feed.publish(e)
	}
}

// emitLocked publishes an event of a component, if anybody listens. It only puts it into the queue: Registry.mu may be
// held, which keeps events in the order of what they tell.
func (r *Registry) emitLocked(level slog.Level, make func(Info) Event, c *call) {
	if r.feed.wants(level) {
		r.feed.publish(make(Info{Time: time.Now(), Name: c.n.name, Phase: c.phase.String()}))
	}
}

// emitAboutLocked is emitLocked for a component that is not being called.
func (r *Registry) emitAboutLocked(level slog.Level, make func(Info) Event, n *node, phase string) {
	if r.feed.wants(level) {
		r.feed.publish(make(Info{Time: time.Now(), Name: n.name, Phase: phase}))
	}
}

func (f *feed) publish(e Event) {
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
	whole := false
	defer func() {
		if !whole { // a subscriber called runtime.Goexit
			go f.deliver()
		}
	}()
	for {
		f.mu.Lock()
		if len(f.queue) == 0 {
			f.queue, f.running = nil, false
			if f.idle != nil {
				close(f.idle)
				f.idle = nil
			}
			f.mu.Unlock()
			whole = true
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

// tell calls one subscriber. What it panics with is logged: it must not take the service down.
func (f *feed) tell(s *subscriber, e Event) {
	defer func() {
		if v := recover(); v != nil {
			err := &PanicError{Value: v, Stack: panicStack()}
			f.logger.LogAttrs(f.ctx, levelError, "subscriber panicked", slog.Any("error", err))
		}
	}()
	s.call(e)
}

func (f *feed) log(e Event) {
	level := e.level()
	if !f.logs(level) {
		return
	}
	i := e.Details()
	attrs := make([]slog.Attr, 0, 8)
	if i.Name != "" {
		attrs = append(attrs, slog.String("component", i.Name))
	}
	if i.Phase != "" {
		attrs = append(attrs, slog.String("phase", i.Phase))
	}
	if i.Elapsed != 0 {
		attrs = append(attrs, slog.Duration("elapsed", i.Elapsed))
	}
	attrs = append(attrs, e.attrs()...)
	if i.Err != nil {
		attrs = append(attrs, slog.Any("error", i.Err))
	}
	f.logger.LogAttrs(f.ctx, level, e.String(), attrs...)
}

const (
	flushLimit = time.Second            // how long a slow subscriber is waited for
	flushGrace = 100 * time.Millisecond // the same when time is over
)

// flush waits until all events so far are delivered: not beyond the deadline but for a moment, and not for long.
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
