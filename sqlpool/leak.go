package sqlpool

import (
	"context"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// reportLeaks logs holds that have outlasted LeakThreshold; each comes here once.
func (c *core) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	for _, h := range late {
		c.met.leaks.Add(1)
		c.cfg().Logger.LogAttrs(context.Background(), slog.LevelWarn, "sqlpool: a connection is held for too long; is a Close missing?", //nolint:forbidigo // a timer's goroutine has no caller
			slog.String("pool", c.poolName()), slog.String("kind", h.Kind),
			slog.Duration("held", now.Sub(h.Since).Round(time.Millisecond)), slog.Duration("threshold", c.cfg().LeakThreshold),
			slog.String("by", holders.Site(h.Stack)), slog.String("stack", h.Stack))
	}
}
