package sqlpool

import (
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// watchesFor returns what looks at holds and files as cfg says, not started.
func (m *manager) watchesFor(cfg *config) (out []*holders.Watch) {
	if cfg.LeakThreshold > 0 {
		out = append(out, holders.NewWatch(m.held, cfg.LeakThreshold, m.reportLeaks))
	}
	if limit := cfg.ReclaimAfter; limit > 0 {
		out = append(out, holders.Every(limit/reclaimLooks, func() { m.reclaimNow(limit) }))
	}
	if cfg.files().Any() && cfg.FileInterval > 0 {
		out = append(out, holders.Every(cfg.FileInterval, m.lookAtFiles))
	}
	return out
}

// watchAnew replaces what looks at holds and files.
func (c *base) watchAnew(watches []*holders.Watch) {
	c.mu.Lock()
	old := c.watches
	c.watches = watches
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
func (m *manager) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	for _, h := range late {
		m.metrics.leaks.Add(1)
		m.events.Emit(event.OfLeak(h, now, m.cfg().LeakThreshold))
	}
}

// reclaimLooks is how often during one ReclaimAfter the holds are compared with it.
const reclaimLooks = 8

func (m *manager) reclaimNow(limit time.Duration) {
	now := time.Now()
	taken, out := m.back.reclaim(now, limit)
	for _, h := range taken {
		m.metrics.use.Record(now.Sub(h.Since))
		m.evicted(poolkeeper.EvictedDead)
		m.metrics.reclaimed.Add(1)
		m.gate.Leave()
		m.events.Emit(event.OfReclaim(h, now, limit))
	}
	if len(taken) > 0 {
		m.evictor.Wake()
	}
	if out > 0 && m.unreached.CompareAndSwap(false, true) {
		m.events.Emit(event.Event{
			Kind: event.Trouble, Level: slog.LevelError,
			Text: "connections are held beyond ReclaimAfter and cannot be taken away: " +
				"their sockets are out of reach, or one was hijacked",
			Attrs: []slog.Attr{slog.Int("connections", out)},
		})
	}
}
