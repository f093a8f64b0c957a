package redispool

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// GoRedisLogger returns a logger for go-redis' own lines, which it writes to stderr otherwise.
// go-redis has one logger for the whole program, so the pools never set it; a service does, once,
// at its start:
//
//	redis.SetLogger(redispool.GoRedisLogger(slog.Default()))
//
// News about the topology ("sentinel: new master") is logged at Info, everything else at Warn. Of
// lines of the same kind five are let through at once and then one a minute, with the number of
// those left out as attribute "skipped": while a server is down go-redis writes a line for each
// failed dial. A nil log is slog.Default(). It is safe for concurrent use.
func GoRedisLogger(log *slog.Logger) interface {
	Printf(ctx context.Context, format string, v ...any)
} {
	if log == nil {
		log = slog.Default()
	}
	return &goRedisLog{log: log}
}

// goRedisLog is go-redis' internal.Logging.
type goRedisLog struct {
	log     *slog.Logger
	limiter event.Limiter
}

// Printf is called by go-redis on the goroutines of callers too. A handler that panics does them no
// harm.
func (l *goRedisLog) Printf(ctx context.Context, format string, v ...any) {
	skipped, ok := l.limiter.Admit(goRedisKind(format, v))
	if !ok {
		return
	}
	var attrs []slog.Attr
	if skipped > 0 {
		attrs = append(attrs, slog.Int("skipped", skipped))
	}
	text := "go-redis: " + strings.TrimSpace(strings.TrimPrefix(fmt.Sprintf(format, v...), "redis: "))
	_ = guard.Call(func() { l.log.LogAttrs(ctx, goRedisLevel(format), text, attrs...) }) // its panic has nowhere to be reported
}

// goRedisKind says which lines are of the same kind: those of one format. Some texts are made
// beforehand and are of one kind if they begin alike, numbers aside.
func goRedisKind(format string, v []any) string {
	if format != "%s" || len(v) != 1 {
		return format
	}
	const begin = 40
	text := fmt.Sprint(v[0])
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text[:min(len(text), begin)])
}

// goRedisLevel tells news from trouble by go-redis' format.
func goRedisLevel(format string) slog.Level {
	for _, news := range []string{"sentinel: new master", "sentinel: discovered", "sentinel: selected"} {
		if strings.HasPrefix(format, news) {
			return slog.LevelInfo
		}
	}
	return slog.LevelWarn
}
