package httpclient

import (
	"slices"

	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// replaceHosts puts a configuration and its endpoints in effect. Hosts without one are dismissed.
func (c *Client) replaceHosts(cfg *Config, next []*endpoint) {
	c.switching.Lock()
	c.live.Store(cfg)
	r := new(rotation)
	for _, e := range next {
		e.switchTo()
		r.all = append(r.all, e.host)
	}
	r.turns = r.all
	old := c.rotation.Swap(r)
	c.switching.Unlock()
	c.generation.Add(1)
	for _, h := range old.all {
		if !slices.Contains(r.all, h) {
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
