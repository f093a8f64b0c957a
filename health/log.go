package health

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// What happened to a check, under the key "kind": the words of the pools' events.
const (
	kindDown     = "down"
	kindDegraded = "degraded"
	kindUp       = "up"
	kindFlapping = "flapping"
	kindPanic    = "panic"
)

// A check gets this many lines at once, and then one each flapEvery.
const (
	flapBurst = 5
	flapEvery = time.Minute
)

// changeLog writes a line for each change of a check. Changes of a check that flaps are summed up
// once a minute, so that the last line is never about a state that is over.
type changeLog struct {
	logger *slog.Logger

	mu      sync.Mutex // guards the following; never held while a line is written
	flaps   map[string]*flap
	tidyAt  int // size of flaps at which those at rest are dropped
	stopped bool
}

// flap limits the lines of one check.
type flap struct {
	spent   int           // of flapBurst
	since   monotime.Time // when spent was last brought up to date
	held    *Transition   // the changes that were not written, merged; nil: there are none
	changes int           // how many there are in held
	timer   *time.Timer   // writes held; nil: there is none
}

func newChangeLog(logger *slog.Logger) *changeLog {
	const tidyFirst = 64
	return &changeLog{logger: logger, flaps: make(map[string]*flap), tidyAt: tidyFirst}
}

// take writes a line about t, or keeps it for a while.
func (l *changeLog) take(t Transition) {
	if t.Check == "" || (t.From == StatusUnknown && t.To == StatusPass) {
		return // what makes a group change is a check, a hold or a shutdown; each has a line already
	}
	if l.admit(t) {
		l.write(t)
	}
}

// admit reports whether a line may be written now.
func (l *changeLog) admit(t Transition) bool {
	now := monotime.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flaps[t.Check]
	if f == nil {
		l.tidyLocked(now)
		f = &flap{since: now}
		l.flaps[t.Check] = f
	}
	f.refill(now)
	if f.held == nil && f.spent < flapBurst {
		f.spent++
		return true
	}
	f.changes++
	if f.held != nil {
		t.From, t.Lasted = f.held.From, f.held.Lasted
	}
	f.held = &t
	if f.timer == nil && !l.stopped {
		name := t.Check
		f.timer = time.AfterFunc(f.since.Add(flapEvery).Sub(now), func() { l.sumUp(name) })
	}
	return false
}

// refill gives back one line for each flapEvery that has passed.
func (f *flap) refill(now monotime.Time) {
	if back := int(now.Sub(f.since) / flapEvery); back > 0 {
		f.spent = max(0, f.spent-back)
		f.since = f.since.Add(time.Duration(back) * flapEvery)
	}
	if f.spent == 0 {
		f.since = now
	}
}

// tidyLocked drops checks at rest when there are many: names come and go.
func (l *changeLog) tidyLocked(now monotime.Time) {
	if len(l.flaps) < l.tidyAt {
		return
	}
	for name, f := range l.flaps {
		if f.refill(now); f.spent == 0 && f.held == nil {
			delete(l.flaps, name)
		}
	}
	l.tidyAt = max(l.tidyAt, 2*len(l.flaps))
}

// sumUp writes one line about the changes that were kept.
func (l *changeLog) sumUp(check string) {
	l.mu.Lock()
	f := l.flaps[check]
	if l.stopped || f == nil || f.held == nil {
		l.mu.Unlock()
		return
	}
	f.refill(monotime.Now())
	f.spent++
	t, changes := *f.held, f.changes
	f.held, f.changes, f.timer = nil, 0, nil
	l.mu.Unlock()
	attrs := append([]slog.Attr{
		slog.String("check", check), slog.String("kind", kindFlapping), slog.String("status", t.To.String()),
		slog.Int("changes", changes),
	}, t.why()...)
	l.line(slog.LevelWarn, "health: a check keeps changing", attrs...)
}

// write writes the line of one change.
func (l *changeLog) write(t Transition) {
	level, kind, text := slog.LevelWarn, kindDown, "health: a check fails"
	switch t.To {
	case StatusPass:
		level, kind, text = slog.LevelInfo, kindUp, "health: a check passes again"
	case StatusWarn:
		kind, text = kindDegraded, "health: a check passes with a reservation"
	case StatusFail, StatusUnknown:
	}
	attrs := []slog.Attr{slog.String("check", t.Check), slog.String("kind", kind)}
	switch t.From {
	case StatusFail:
		attrs = append(attrs, slog.Duration("down_for", t.Lasted.Round(time.Millisecond)))
	case StatusWarn:
		if t.To == StatusPass {
			attrs = append(attrs, slog.Duration("degraded_for", t.Lasted.Round(time.Millisecond)))
		}
	case StatusUnknown, StatusPass:
	}
	l.line(level, text, append(attrs, t.why()...)...)
}

// why says why a check does not pass.
func (t Transition) why() []slog.Attr {
	if t.Err == nil {
		return nil
	}
	attrs := []slog.Attr{slog.String("cause", string(t.Fault.Kind))}
	if t.Fault.Advice != "" {
		attrs = append(attrs, slog.String("advice", t.Fault.Advice))
	}
	attrs = append(attrs, slog.Time("since", t.Since))
	if t.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", t.Failures))
	}
	attrs = append(attrs, slog.String("impact", t.Impact.String()))
	if len(t.CausedBy) > 0 {
		attrs = append(attrs, slog.Any("caused_by", t.CausedBy))
	}
	attrs = append(attrs, slog.Any("error", t.Err))
	if p, ok := errors.AsType[*panicError](t.Err); ok {
		attrs = append(attrs, slog.String("stack", p.stack))
	}
	return attrs
}

// failed tells of a listener that panicked or ended its goroutine.
func (l *changeLog) failed(err error) {
	attrs := []slog.Attr{slog.String("kind", kindPanic), slog.Any("error", err)}
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		attrs = append(attrs, slog.String("stack", p.Stack))
	}
	l.line(slog.LevelError, "health: a listener to changes failed", attrs...)
}

// line writes one line. A log handler that panics or ends its goroutine does no harm. No logger is left to report it.
func (l *changeLog) line(level slog.Level, text string, attrs ...slog.Attr) {
	_ = guard.Call(func() {
		//nolint:forbidigo // a change belongs to no call
		l.logger.LogAttrs(context.Background(), level, text, attrs...)
	})
}

// stop ends the timers. A line that is being written is not waited for.
func (l *changeLog) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, f := range l.flaps {
		if f.timer != nil {
			f.timer.Stop()
		}
	}
}
