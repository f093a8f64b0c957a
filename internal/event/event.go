// Package event is how a pool tells an operator that something happened: one line in the log for each change.
package event

import (
	"context"
	"log/slog"
	"sync"
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
	Hold           Kind = "hold"            // connections are still held at a shutdown
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

// Limits of one kind: this many at once, and then one each refill.
const (
	burst  = 5
	refill = time.Minute
)

// Log writes the events of one pool. It is safe for concurrent use.
type Log struct {
	pkg     string
	pool    func() string
	logger  func() *slog.Logger
	explain func(error) (cause, advice string)

	mu    sync.Mutex // guards the following
	kinds map[Kind]*bucket
}

// bucket limits one kind.
type bucket struct {
	spent   int           // of burst
	since   monotime.Time // when spent was last brought up to date
	skipped int           // since the last line
}

// NewLog returns the Log of a pool. Lines begin with pkg and name pool; explain gives an error's class and what to look at
// first, and may be nil.
func NewLog(pkg string, pool func() string, logger func() *slog.Logger, explain func(error) (cause, advice string)) *Log {
	return &Log{pkg: pkg, pool: pool, logger: logger, explain: explain, kinds: map[Kind]*bucket{}}
}

// Emit writes e as one line, unless its kind has come too often of late: the next line then says how many were left
// out. It blocks for as long as the logger's handler does, which may panic or end its goroutine without harm. It must
// not be called under a lock.
func (l *Log) Emit(e Event) {
	skipped, ok := l.admit(e.Kind)
	if !ok {
		return
	}
	attrs := append([]slog.Attr{slog.String("pool", l.pool()), slog.String("kind", string(e.Kind))}, e.Attrs...)
	if e.Err != nil {
		if l.explain != nil {
			cause, advice := l.explain(e.Err)
			attrs = append(attrs, slog.String("cause", cause), slog.String("advice", advice))
		}
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	if skipped > 0 {
		attrs = append(attrs, slog.Int("skipped", skipped))
	}
	_ = guard.Call(func() { // a handler's panic has nowhere to be reported
		l.logger().LogAttrs(context.Background(), e.Level, l.pkg+": "+e.Text, attrs...) //nolint:forbidigo // an event belongs to no call
	})
}

// admit reports whether a line of the kind may be written, and how many were left out before it.
func (l *Log) admit(k Kind) (skipped int, ok bool) {
	now := monotime.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.kinds[k]
	if b == nil {
		b = &bucket{since: now}
		l.kinds[k] = b
	}
	if back := int(now.Sub(b.since) / refill); back > 0 {
		b.spent = max(0, b.spent-back)
		b.since = b.since.Add(time.Duration(back) * refill)
	}
	if b.spent >= burst {
		b.skipped++
		return 0, false
	}
	b.spent++
	skipped, b.skipped = b.skipped, 0
	return skipped, true
}
