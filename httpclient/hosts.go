package httpclient

import (
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// replaceHosts puts a configuration and its endpoints in effect. It dismisses hosts without endpoint.
func (c *Client) replaceHosts(cfg *Config, next []*endpoint) {
	c.switching.Lock()
	c.live.Store(cfg)
	all := make([]*host, len(next))
	for i, e := range next {
		e.switchTo()
		all[i] = e.host
	}
	old := c.rotation.Load()
	c.scores.Configure(cfg.Isolation, cfg.judgeEvery())
	changes := c.rotateLocked(all, time.Now())
	c.switching.Unlock()
	c.tellChanges(changes)
	c.generation.Add(1)
	for _, h := range old.all {
		if !slices.Contains(all, h) {
			c.dismiss(h)
		}
	}
}

// dismiss ends the use of a host. Requests in flight finish.
func (c *Client) dismiss(h *host) {
	h.endpoint.Load().retire()
	_ = h.breaker.Stop(c.life) // trials end with their context
	c.mu.Lock()
	defer c.mu.Unlock()
	c.former = slices.DeleteFunc(c.former, func(h *host) bool {
		s := h.stats()
		if s.Open+s.Waiting+s.Dialing > 0 {
			return false
		}
		s.Max = 0
		sum.Add(&c.past, &s)
		return true
	})
	c.former = append(c.former, h)
}
