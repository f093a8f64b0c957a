package testkit

import (
	"log/slog"
	"strings"
	"sync"
)

// Silent returns a logger that discards everything.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Log keeps what is logged. Its zero value is ready, and it is safe for concurrent use.
type Log struct {
	mu  sync.Mutex // guards the following
	out strings.Builder
}

// Logger writes to the log, whatever the level.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write adds to the log.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

// String is all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}
