package httpclient

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

// Holders lists the requests in flight, the oldest first: those that wait for their answer, and those
// whose response is not read to its end or closed. It does no I/O.
func (c *Client) Holders() []poolkeeper.Holder { return c.held.List() }

// watchesFor returns the stopped watches of a configuration.
func (c *Client) watchesFor(cfg *Config) []*holders.Watch {
	var out []*holders.Watch
	if cfg.LeakThreshold > 0 {
		out = append(out, holders.NewWatch(c.held, cfg.LeakThreshold, c.reportLeaks))
	}
	if cfg.files().Any() && cfg.FileInterval > 0 {
		out = append(out, holders.Every(cfg.FileInterval, c.lookAtFiles))
	}
	if cfg.isolates() {
		out = append(out, holders.Every(cfg.judgeEvery(), c.sampleHosts))
	}
	return out
}

// reportLeaks reports responses that have been open for longer than LeakThreshold; each comes here
// once.
func (c *Client) reportLeaks(late []poolkeeper.Holder) {
	now := time.Now()
	for _, h := range late {
		c.leaks.Add(1)
		c.events.Emit(event.OfLeak(h, now, c.config().LeakThreshold))
	}
}
