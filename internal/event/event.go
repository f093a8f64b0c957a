// Package event is how a pool tells an operator that something happened: one line in the log for
// each change.
package event

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Kind is what happened, in a word to filter and alert by. Both pools use the same kinds.
type Kind string

// Kinds.
const (
	Down           Kind = "down"            // the server is known to be gone: callers fail at once
	Up             Kind = "up"              // it is back
	StartFailed    Kind = "start-failed"    // an attempt of Start failed, and the policy says to go on
	Reset          Kind = "reset"           // connections are replaced
	Paused         Kind = "paused"          // callers are held up
	Resumed        Kind = "resumed"         // they go on
	Reloaded       Kind = "reloaded"        // a new configuration is in effect
	ReloadRefused  Kind = "reload-refused"  // the old one stays
	Renewed        Kind = "renewed"         // new credentials or certificates are in effect
	RenewalRefused Kind = "renewal-refused" // the old ones stay
	Limits         Kind = "limits"          // the server's limits do not fit the configuration
	Pooler         Kind = "pooler"          // a pooler such as pgbouncer stands before the server
	Leak           Kind = "leak"            // a connection is held for longer than LeakThreshold
	Reclaimed      Kind = "reclaimed"       // a connection was taken away from its holder
	MemberLost     Kind = "member-lost"     // a replica, or a node of a Cluster, is out of use
	MemberBack     Kind = "member-back"     // it is in use again
	Misuse         Kind = "misuse"          // the service works against the pool
	Panic          Kind = "panic"           // code of the service panicked on a goroutine of the pool
	Trouble        Kind = "trouble"         // the pool could not do a part of its own work
)

// Event is one thing that happened.
type Event struct {
	Kind  Kind
	Level slog.Level
	Text  string      // a sentence without its numbers, and without the package
	Err   error       // why; nil: nothing failed
	Attrs []slog.Attr // the numbers
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
}

// incident is how long after a Reset another one belongs to the same incident: it is no warning of
// its own.
const incident = time.Minute

// NewLog returns the Log of a pool. Lines begin with pkg and name pool; explain gives an error's
// class and what to look at first, and may be nil.
func NewLog(pkg string, pool func() string, logger func() *slog.Logger, explain func(error) (cause, advice string)) *Log {
	return &Log{pkg: pkg, pool: pool, logger: logger, explain: explain, ctx: context.Background()} //nolint:forbidigo // see Log
}

// Emit writes e as one line, unless its kind has come too often of late: the next line then says
// how many were left out. It blocks for as long as the logger's handler does, which may panic or
// end its goroutine without harm. It must not be called under a lock.
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
	attrs := append([]slog.Attr{slog.String("pool", l.pool()), slog.String("kind", string(e.Kind))}, e.Attrs...)
	if e.Err != nil {
		if cause, advice := l.explained(e.Err); advice != "" {
			attrs = append(attrs, slog.String("cause", cause), slog.String("advice", advice))
		}
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	if skipped > 0 {
		attrs = append(attrs, slog.Int("skipped", skipped))
	}
	_ = guard.Call(func() { // a handler's panic has nowhere to be reported
		l.logger().LogAttrs(l.ctx, e.Level, l.pkg+": "+e.Text, attrs...)
	})
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
