package sqlpool

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// watchesFor returns what looks at holds and files as cfg says, not started.
func (c *core) watchesFor(cfg *config) (out []*holders.Watch) {
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
func (c *core) watchAnew(cfg *config) {
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
		c.events.Emit(event.OfLeak(h, now, c.cfg().LeakThreshold))
	}
}
