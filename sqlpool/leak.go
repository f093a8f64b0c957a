package sqlpool

import (
	"context"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// watchesFor returns what looks at holds and files as cfg says, not started.
func (c *core) watchesFor(cfg *Config) (out []*holders.Watch) {
	if cfg.LeakThreshold > 0 {
		out = append(out, holders.NewWatch(c.held, cfg.LeakThreshold, c.reportLeaks))
	}
	if limit := cfg.ReclaimAfter; limit > 0 {
		out = append(out, holders.Every(limit/reclaimLooks, func() { c.reclaimNow(limit) }))
	}
	if cfg.files().Any() && cfg.FileInterval > 0 {
		out = append(out, holders.Every(cfg.FileInterval, c.lookAtFiles))
	}
	return out
}

// watchAnew replaces what looks at holds and files.
func (c *core) watchAnew(cfg *Config) {
	c.mu.Lock()
	old := c.watches
	c.watches = c.watchesFor(cfg)
	if c.state.At() == life.Running {
		for _, w := range c.watches {
			w.Start()
		}
	}
	c.mu.Unlock()
	for _, w := range old {
		w.Stop()
	}
}

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
