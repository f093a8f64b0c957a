// Package event is how a pool tells an operator that something happened: one line in the log for
// each change, and the same to subscribers.
package event

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Kind is what happened. The kinds are documented in the root package.
type Kind = poolkeeper.EventKind

// Kinds.
const (
	Down           = poolkeeper.EventDown
	Up             = poolkeeper.EventUp
	StartFailed    = poolkeeper.EventStartFailed
	Reset          = poolkeeper.EventReset
	Paused         = poolkeeper.EventPaused
	Resumed        = poolkeeper.EventResumed
	Reloaded       = poolkeeper.EventReloaded
	ReloadRefused  = poolkeeper.EventReloadRefused
	Renewed        = poolkeeper.EventRenewed
	RenewalRefused = poolkeeper.EventRenewalRefused
	Expiry         = poolkeeper.EventExpiry
	Limits         = poolkeeper.EventLimits
	Pooler         = poolkeeper.EventPooler
	Leak           = poolkeeper.EventLeak
	Reclaimed      = poolkeeper.EventReclaimed
	MemberLost     = poolkeeper.EventMemberLost
	MemberBack     = poolkeeper.EventMemberBack
	MemberIsolated = poolkeeper.EventMemberIsolated
	MemberTrial    = poolkeeper.EventMemberTrial
	Misuse         = poolkeeper.EventMisuse
	Panic          = poolkeeper.EventPanic
	Trouble        = poolkeeper.EventTrouble
)

// Event is one thing that happened.
type Event struct {
	Kind  Kind
	Level slog.Level
	Text  string      // a sentence without its numbers, and without the package
	Err   error       // why; nil: nothing failed
	Attrs []slog.Attr // the numbers

	Holder *poolkeeper.Holder // of Leak and Reclaimed
}

// Log writes the events of one pool. It is safe for concurrent use.
type Log struct {
	pkg     string
	pool    func() string
	logger  func() *slog.Logger
	explain func(error) (cause, advice string)
	ctx     context.Context //nolint:containedctx // of every line: an event belongs to no call
	limiter Limiter
	reset   atomic.Int64 // a monotime.Time: when connections were last replaced; 0: never

	mu   sync.Mutex // guards the following
	subs []*subscriber
}

type subscriber struct{ call func(poolkeeper.Event) }

// incident is how long after a Reset another one belongs to the same incident: it is no warning of
// its own.
const incident = time.Minute

// NewLog returns the Log of a pool. Lines begin with pkg and name pool; explain gives an error's
// class and what to look at first, and may be nil.
func NewLog(pkg string, pool func() string, logger func() *slog.Logger, explain func(error) (cause, advice string)) *Log {
	return &Log{pkg: pkg, pool: pool, logger: logger, explain: explain, ctx: context.Background()} //nolint:forbidigo // see Log
}

// Subscribe calls fn for every event that is logged from now on, until cancel is called. fn may be
// called concurrently; a call under way may still end after cancel.
func (l *Log) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	s := &subscriber{fn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(slices.Clip(l.subs), s)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.subs = slices.DeleteFunc(slices.Clone(l.subs), func(each *subscriber) bool { return each == s })
	}
}

// Emit logs e as one line and passes it to the subscribers. If its kind has come too often of late, it
// only counts e, and the next line has the count. It blocks as long as the logger's handler and the
// subscribers do; their panics do no harm. It must not be called under a lock.
func (l *Log) Emit(e Event) {
	skipped, ok := l.limiter.Admit(string(e.Kind))
	if !ok {
		return
	}
	if e.Kind == Reset && e.Level == slog.LevelWarn {
		now := monotime.Now()
		if last := monotime.Time(l.reset.Swap(int64(now))); last != 0 && now.Sub(last) < incident {
			e.Level = slog.LevelInfo
		}
	}
	out := poolkeeper.Event{
		Time: time.Now(), Pool: l.pool(), Kind: e.Kind, Level: e.Level, Text: e.Text,
		Err: e.Err, Holder: e.Holder, Skipped: skipped, Attrs: e.Attrs,
	}
	if e.Err != nil {
		if cause, advice := l.explained(e.Err); advice != "" {
			out.Cause, out.Advice = cause, advice
		}
	}
	_ = guard.Call(func() { // a handler's panic has nowhere to be reported
		l.logger().LogAttrs(l.ctx, e.Level, l.pkg+": "+e.Text, Attrs(out)...)
	})
	l.mu.Lock()
	subs := l.subs
	l.mu.Unlock()
	for _, s := range subs {
		l.pass(s, out)
	}
}

// pass calls one subscriber. Its panic or Goexit is logged, and does the others no harm.
func (l *Log) pass(s *subscriber, e poolkeeper.Event) {
	err := guard.Call(func() { s.call(e) })
	if err == nil {
		return
	}
	if skipped, ok := l.limiter.Admit("subscriber"); ok {
		failed := OfPanic("a subscriber to the pool's events", err)
		out := poolkeeper.Event{Pool: e.Pool, Kind: Panic, Err: err, Skipped: skipped, Attrs: failed.Attrs}
		_ = guard.Call(func() { l.logger().LogAttrs(l.ctx, failed.Level, l.pkg+": "+failed.Text, Attrs(out)...) })
	}
}

// Attrs are the attributes of an event's log line.
func Attrs(e poolkeeper.Event) []slog.Attr {
	attrs := append([]slog.Attr{slog.String("pool", e.Pool), slog.String("kind", string(e.Kind))}, e.Attrs...)
	if e.Advice != "" {
		attrs = append(attrs, slog.String("cause", e.Cause), slog.String("advice", e.Advice))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	if e.Skipped > 0 {
		attrs = append(attrs, slog.Int("skipped", e.Skipped))
	}
	return attrs
}

// Advise adds to an error what to look at first, where that is known. The error itself is wrapped.
func (l *Log) Advise(err error) error {
	if err == nil {
		return nil
	}
	if _, advice := l.explained(err); advice != "" {
		return fmt.Errorf("%w (%s)", err, advice)
	}
	return err
}

func (l *Log) explained(err error) (cause, advice string) {
	if l.explain == nil {
		return "", ""
	}
	return l.explain(err)
}
